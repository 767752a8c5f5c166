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
	there    map[store.Day][]uint64 // batches that the engine has something of, ascending
	dropped  int
	told     int             // of dropped: by the cluster's word
	aside    map[uint64]bool // batches that were damaged before the engine had them
	said     int             // of Changed
}

// gone is a batch that is gone as a whole, or so far as its part is deleted.
type gone struct {
	*entry
	what, held string
}

// elsewhere compares the batches whose events another engine has, of the days that are asked for, with the log.
func (s *sealed) elsewhere(ctx context.Context) error {
	a := &away{}
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
		s.wholly(a, g.entry, g.what, g.held)
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
	for i, e := range list {
		r := again[i]
		what := fmt.Sprintf("batch %d of %s in the cluster", e.batch, e.part)
		held := fmt.Sprintf("%s, of hosts %s", span(e.minMs, e.maxMs), e.hosts)
		switch x, here := s.found[e.batch]; {
		case r.Strange == 0 && r.Gone() > 0 && here && x.err == nil && x.sum.Is(e.hash, e.pieces):
			// The engine has none of it, or some: a batch goes to one shard after the other, and some may take nothing for hours.
			a.waiting++
			s.rep.Groups, s.rep.Events = s.rep.Groups+1, s.rep.Events+e.events
			continue
		case r.Strange == 0 && (r.Gone() == e.events || r.Dropped && r.Gone() > 0): // a part is deleted shard by shard
			a.gones = append(a.gones, gone{e, what, held})
			continue
		}
		differs := r.Differs()
		if root, ok := s.sealed[e.batch]; differs == "" && !ok {
			a.rootless++
		} else if differs == "" && treeOf(r).Root() != root {
			differs = fmt.Sprintf("the text, sender or receipts of some of its %d events were CHANGED", e.events)
		}
		if differs != "" {
			s.differs(a, "%s is not what was stored on %s: %s; %s", what, when(e.at), differs, held)
			continue
		}
		s.rep.Groups, s.rep.Events = s.rep.Groups+1, s.rep.Events+e.events
	}
	return nil
}

// treeOf makes the tree over the events of a batch.
func treeOf(r *store.Reread) *eventtree.Tree {
	t := eventtree.NewTree(len(r.Hashes))
	for _, h := range r.Hashes {
		t.Add(h)
	}
	return t
}

// wholly says of a batch of which nothing is there whether it was dropped, and whose word that is.
func (s *sealed) wholly(a *away, e *entry, what, held string) {
	day := strings.Split(e.part, ".")[0]
	on, still, own := store.Day(0), uint64(0), false
	if part, err := store.ParsePart(e.part); err == nil {
		on = part.Day
	}
	spans := func(first, last uint64) bool {
		is, other := store.WentWith(e.batch, first, last, a.there[on])
		still = max(still, other)
		return is
	}
	in := func(list map[string]*entry) (is bool) {
		for _, d := range list {
			if d.flags&seal.Elsewhere != 0 && d.index > e.index && strings.HasPrefix(d.part, seal.ClusterPart+day) && spans(d.first, d.last) {
				is, own = true, own || !strings.HasPrefix(d.why, seal.ClusterWord)
			}
		}
		return is
	}
	told := func() bool {
		return slices.ContainsFunc(a.gone, func(d store.DroppedPart) bool { return d.Part.Day == on && spans(d.First, d.Last) })
	}
	switch {
	case a.aside[e.batch]: // whoever can write the manifest can say so: it is no more than a reason
		s.differs(a, "%s: its %d events were set aside as damaged, never delivered: the store's own manifest says so; %s", what, e.events, held)
	case in(s.dropped):
		if a.dropped++; !own {
			a.told++
		}
	case in(s.saidDropped) || told():
		s.differs(a, "%s: all of its %d events are GONE, and no checkpoint has signed that the day was dropped, as the cluster says: somebody has deleted it, or a newer checkpoint says more; %s", what, e.events, held)
	case still != 0:
		s.differs(a, "%s: its %d events are GONE, or some of them, and it was not dropped, as the cluster says: of batch %d, which would have gone with it, something is there; %s", what, e.events, still, held)
	default:
		s.differs(a, "%s: all of its %d events are GONE, and nothing says that the day was dropped; %s", what, e.events, held)
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
	a.there = map[store.Day][]uint64{}
	for _, e := range a.list {
		if part, err := store.ParsePart(e.part); err == nil && counts[e.batch] > 0 {
			a.there[part.Day] = append(a.there[part.Day], e.batch)
		}
	}
	for _, list := range a.there {
		slices.Sort(list)
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
		s.differs(a, "batch %d in the cluster: its %d events were PUT IN: the log has no such batch of this collector", batch, counts[batch])
	}
	return nil
}
