package upkeep

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/auditfleet/auditfleet/collector/internal/eventtree"
	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// Elsewhere gives again what an engine elsewhere has of the store's batches.
type Elsewhere interface {
	store.Rereader
	store.Dropping
}

// mostAway is how many batches of one kind are named.
const mostAway = 50

// away are batches whose events another engine has, and what was found of them.
type away struct {
	list     []*entry
	from, to store.Day // of the batches
	gone     []store.DroppedPart
	waiting  int // batches that the engine has not taken yet
	rootless int // batches without a root: their events are counted only
	gones    []gone
	there    map[store.Day]map[string][]uint64 // by store.ClassKey: batches that the engine has something of, ascending
	dropped  int
	classes  map[string]*goneClass // of batches that were dropped class by class
	told     int                   // of both: by the cluster's word
	aside    map[uint64]bool       // batches that were damaged before the engine had them
	said     int                   // of Changed
}

// gone is a batch, or what it has of a class, that is gone as a whole, or so far as its part is deleted.
type gone struct {
	*entry
	class      store.Divided
	what, held string
}

// goneClass is what was dropped of a class.
type goneClass struct {
	batches int
	events  uint64
}

// elsewhere compares the batches whose events another engine has, of the days that are asked for, with the log.
func (s *sealed) elsewhere(ctx context.Context) error {
	a := &away{classes: map[string]*goneClass{}}
	all := 0
	for i := range s.entries {
		e := &s.entries[i]
		if e.kind != seal.Batch || e.gone || e.flags&seal.Elsewhere == 0 || s.used && int64(i) >= s.settled {
			continue
		}
		all++
		part, err := store.ParsePart(e.part)
		if err != nil || !s.asked(part.Day) {
			continue
		}
		if len(a.list) == 0 {
			a.from, a.to = part.Day, part.Day
		}
		a.from, a.to = min(a.from, part.Day), max(a.to, part.Day)
		a.list = append(a.list, e)
	}
	switch {
	case all == 0 && s.o.Elsewhere == nil:
		return nil
	case s.o.Elsewhere == nil:
		s.notef("%d batches went to a cluster: what there is of their events is not compared", all)
		return nil
	}
	var err error
	if a.gone, err = s.o.Elsewhere.Drops(ctx); err != nil {
		return err
	}
	a.aside = s.setAside()
	for list := a.list; len(list) > 0; {
		n, events := 0, uint64(0)
		for ; n < len(list) && n < store.RereadBatches && (n == 0 || events+list[n].events <= store.RereadEvents); n++ {
			events += list[n].events
		}
		if err := s.readAgain(ctx, a, list[:n]); err != nil {
			return err
		}
		list = list[n:]
	}
	if err := s.putIn(ctx, a); err != nil {
		return err
	}
	for _, g := range a.gones {
		s.wholly(a, &g)
	}
	if n := a.said - mostAway; n > 0 {
		s.changed("%d other batches in the cluster differ from the log", n)
	}
	if a.waiting > 0 {
		s.notef("%d batches wait for the cluster to take them, in the collector's own files", a.waiting)
	}
	if a.dropped > 0 {
		s.notef("%d batches were dropped with their days", a.dropped)
	}
	for _, name := range slices.Sorted(maps.Keys(a.classes)) {
		c := a.classes[name]
		s.notef("of %d batches what they had of the class %q was dropped, %d events; the rest of them was compared with the log", c.batches, name, c.events)
	}
	if a.told > 0 {
		s.notef("of %d of these it is the cluster's word that they were dropped, by other collectors or before a restart: whoever may write there can say so", a.told)
	}
	if a.rootless > 0 {
		s.notef("%d batches went to the cluster without a root of their events in the log: that there are as many is all that can be told", a.rootless)
	}
	if len(a.list) < all {
		s.notef("%d batches of other days were not compared", all-len(a.list))
	}
	return nil
}

// setAside returns the batches that were damaged in the store's own files before the engine had them, as the manifest says.
func (s *sealed) setAside() map[uint64]bool {
	list := map[uint64]bool{}
	c, err := manifest.Load(fsys.OS, s.o.Dir)
	if err != nil {
		return list // then they are gone, and nothing says why
	}
	for _, x := range c.Lost {
		if x.Batch != 0 && x.File != "" {
			list[x.Batch] = true
		}
	}
	return list
}

// asked reports whether a day of receipt is one of those that are asked for.
func (s *sealed) asked(day store.Day) bool {
	return (s.o.From == 0 || day >= s.o.From) && (s.o.To == 0 || day <= s.o.To)
}

// differs says what of a batch is not as it was, the first ones by name.
func (s *sealed) differs(a *away, format string, args ...any) {
	if a.said++; a.said <= mostAway {
		s.changed(format, args...)
	}
}

// readAgain compares some batches.
func (s *sealed) readAgain(ctx context.Context, a *away, list []*entry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	again := make([]*store.Reread, len(list))
	for i, e := range list {
		part, err := store.ParsePart(e.part)
		if err != nil || e.events > eventtree.MaxEvents {
			return fmt.Errorf("leaf %d: %w", e.index, seal.ErrDamaged)
		}
		again[i] = &store.Reread{Batch: e.batch, Day: part.Day, Events: e.events}
	}
	if err := s.o.Elsewhere.Reread(ctx, again, true); err != nil {
		return err
	}
	var torn []*store.Reread
	for i, e := range list {
		if again[i].Torn(store.DividedOf(e.why, e.events)) {
			torn = append(torn, again[i])
		}
	}
	if len(torn) > 0 {
		if err := s.o.Elsewhere.Reread(ctx, torn, true); err != nil {
			return err
		}
	}
	for i, e := range list {
		r := again[i]
		what := fmt.Sprintf("batch %d of %s in the cluster", e.batch, e.part)
		held := fmt.Sprintf("%s, of hosts %s", span(e.minMs, e.maxMs), e.hosts)
		if x, here := s.found[e.batch]; r.Strange == 0 && r.Gone() > 0 && here && x.err == nil && x.sum.Is(e.hash, e.pieces) {
			// The engine has none of it, or some: a batch goes to one shard after the other, and some may take nothing for hours.
			a.waiting++
			s.rep.Groups, s.rep.Events = s.rep.Groups+1, s.rep.Events+e.events
			continue
		}
		if r.Strange == 0 {
			s.leaveOut(a, e, r, what, held)
		}
		if r.Rest() == 0 && e.events > 0 {
			continue
		}
		differs := r.Differs()
		if root, ok := s.sealed[e.batch]; differs == "" && !ok {
			a.rootless++
		} else if differs == "" && !isRoot(r, root) {
			differs = fmt.Sprintf("the text, sender or receipts of some of its %d events were CHANGED", r.Rest())
		}
		if differs != "" {
			s.differs(a, "%s is not what was stored on %s: %s; %s", what, when(e.at), differs, held)
			continue
		}
		s.rep.Groups, s.rep.Events = s.rep.Groups+1, s.rep.Events+r.Rest()
	}
	return nil
}

// leaveOut takes out of a batch what is gone of it as a drop takes it: a class as a whole, all classes, or some of one whose part is dropped, for that is deleted shard by shard.
// Whether it was dropped is asked later.
func (s *sealed) leaveOut(a *away, e *entry, r *store.Reread, what, held string) {
	classes := store.DividedOf(e.why, e.events)
	for _, d := range r.Lost(classes) {
		left := slices.ContainsFunc(r.Hashes[d.First:d.First+d.Events], func(h [32]byte) bool { return h != [32]byte{} })
		if left && !slices.ContainsFunc(r.Drops, func(x store.DroppedPart) bool { return store.IsDropOf(x.Class, d.Name) }) {
			continue
		}
		r.Without(d)
		of := what
		if d.Name != "" {
			of += fmt.Sprintf(", class %q", d.Name)
		}
		a.gones = append(a.gones, gone{e, d, of, held})
	}
}

// isRoot reports whether what there is of a batch has the root that the log has: what was dropped of it is in there by the hashes that are kept with the rest, which make no
// other root the right one.
func isRoot(r *store.Reread, root eventtree.Hash) bool {
	t := eventtree.NewPartial(r.Hashes)
	for _, d := range r.Around {
		_ = t.Around(int64(min(d.First, 1<<40)), int64(min(d.Events, 1<<40)), d.Proof) // what does not fit makes no root
	}
	is, ok := t.Root()
	return ok && is == root
}

// wholly says of a batch, or a class of it, of which nothing is there whether it was dropped, and whose word that is.
func (s *sealed) wholly(a *away, g *gone) {
	e, what, held, events := g.entry, g.what, g.held, g.class.Events
	day := strings.Split(e.part, ".")[0]
	on, still, own := store.Day(0), uint64(0), false
	if part, err := store.ParsePart(e.part); err == nil {
		on = part.Day
	}
	spans := func(class string, first, last uint64) bool {
		is, other := store.WentOf(e.batch, g.class.Name, class, first, last, a.there[on])
		still = max(still, other)
		return is
	}
	in := func(list map[string]*entry) (is bool) {
		for _, d := range list {
			if d.flags&seal.Elsewhere != 0 && d.index > e.index && strings.HasPrefix(d.part, seal.ClusterPart+day) && spans(seal.DroppedClass(d.why), d.first, d.last) {
				is, own = true, own || !strings.HasPrefix(d.why, seal.ClusterWord)
			}
		}
		return is
	}
	told := func() bool {
		return slices.ContainsFunc(a.gone, func(d store.DroppedPart) bool { return d.Part.Day == on && spans(d.Class, d.First, d.Last) })
	}
	switch {
	case a.aside[e.batch]: // whoever can write the manifest can say so: it is no more than a reason
		s.differs(a, "%s: its %d events were set aside as damaged, never delivered: the store's own manifest says so; %s", what, events, held)
	case in(s.dropped):
		if name := g.class.Name; name == "" {
			a.dropped++
		} else {
			if a.classes[name] == nil {
				a.classes[name] = &goneClass{}
			}
			a.classes[name].batches, a.classes[name].events = a.classes[name].batches+1, a.classes[name].events+events
		}
		if !own {
			a.told++
		}
	case in(s.saidDropped) || told():
		s.differs(a, "%s: all of its %d events are GONE, and no checkpoint has signed that the day was dropped, as the cluster says: somebody has deleted it, or a newer checkpoint says more; %s", what, events, held)
	case still != 0:
		s.differs(a, "%s: its %d events are GONE, or some of them, and it was not dropped, as the cluster says: of batch %d, which would have gone with it, something is there; %s", what, events, still, held)
	default:
		s.differs(a, "%s: all of its %d events are GONE, and nothing says that the day was dropped; %s", what, events, held)
	}
}

// allDays is later than any day.
const allDays = store.Day(1 << 20)

// putIn looks for batches that the log never had.
func (s *sealed) putIn(ctx context.Context, a *away) error {
	from, to := s.o.From, s.o.To
	if to == 0 {
		to = allDays
	}
	counts, err := s.o.Elsewhere.Counts(ctx, from, to)
	if err != nil {
		return err
	}
	a.there = map[store.Day]map[string][]uint64{}
	for _, e := range a.list {
		part, err := store.ParsePart(e.part)
		if err != nil || len(counts[e.batch]) == 0 {
			continue
		}
		if a.there[part.Day] == nil {
			a.there[part.Day] = map[string][]uint64{}
		}
		for _, d := range store.DividedOf(e.why, e.events) {
			if key := store.ClassKey(d.Name); d.CountIn(counts[e.batch]) > 0 {
				a.there[part.Day][key] = append(a.there[part.Day][key], e.batch)
			}
		}
	}
	for _, of := range a.there {
		for _, list := range of {
			slices.Sort(list)
		}
	}
	unsealed := uint64(0)
	if len(s.entries) > 0 && s.entries[0].kind == seal.Begun {
		unsealed = s.entries[0].batch
	}
	for _, batch := range slices.Sorted(maps.Keys(counts)) {
		_, is := s.batches[batch]
		if is || batch <= unsealed || batch > s.logged && s.used { // it goes on meanwhile
			continue
		}
		s.differs(a, "batch %d in the cluster: its %d events were PUT IN: the log has no such batch of this collector", batch, store.CountOf(counts[batch]))
	}
	return nil
}
