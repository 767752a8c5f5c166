package server

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/evidence"
	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Of collectors that keep their events in one cluster each has a log of its own, which proves what it has stored itself. So a bundle is one collector's: it has the
// events that this one has stored, and says how many there are of whom else. And it says which batches of the time asked are not all there any more: of an event that
// somebody has taken out of the cluster no search finds anything.

// cluster prepares a bundle of events that are elsewhere.
func (b *bundling) cluster(m *evidence.Making) {
	far, err := store.Able[store.Rereader](b.store, "read batches again")
	if err != nil {
		return
	}
	asked := m.Query
	listed, err := store.Able[store.Listed](b.store, "list collectors")
	shared := err == nil && listed.Roster() != nil
	if shared {
		own := *asked
		own.Own = true
		m.Query = &own
	}
	m.Lacks = func(ctx context.Context, touched func(batch uint64) bool) (string, error) {
		var list []string
		if shared {
			said, err := b.others(ctx, asked, listed.Roster())
			if err != nil {
				return "", fmt.Errorf("ask what other collectors of the cluster have stored: %w", err)
			}
			list = append(list, said...)
		}
		said, err := b.takenOut(ctx, m, far, touched)
		if err != nil {
			return "", fmt.Errorf("compare what is stored with the log: %w", err)
		}
		return strings.Join(append(list, said...), "; "), nil
	}
}

// others says how many events that are asked about other collectors have stored, and of which hosts they have some that they have not.
func (b *bundling) others(ctx context.Context, q *query.Query, r store.Roster) (list []string, err error) {
	seen, err := r.Seen(ctx, time.Now())
	if err != nil {
		return nil, err
	}
	members, err := r.Members(ctx)
	if err != nil {
		return nil, err
	}
	hosts, err := r.MemberHosts(ctx, "")
	if err != nil {
		return nil, err
	}
	own, held := storeID(b.store), map[string]uint64{}
	for i := range hosts {
		if h := &hosts[i]; h.Store != own && (len(q.Nodes) == 0 || h.Host == "" || q.WantsNode(h.Host)) {
			held[h.Store] += h.Held()
		}
	}
	who := map[string]string{}
	for i := range members {
		if m := &members[i]; m.Store != own && m.Lost == 0 {
			who[m.Store] = fmt.Sprintf("the collector %s, whose log proves them (collector evidence --server %s)", m.Name, cmp.Or(m.Address, "HOST:PORT"))
			seen[m.Store] = max(seen[m.Store], 0)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(seen)) {
		theirs := *q
		theirs.Theirs, theirs.Others = true, map[string]uint64{id: math.MaxInt64}
		n, err := b.count(ctx, &theirs)
		if err != nil {
			return nil, err
		}
		name := cmp.Or(who[id], "no collector that is known, so no log proves them")
		if n > 0 {
			list = append(list, fmt.Sprintf("%d events that match are in the same cluster, and not in this bundle: they were stored by %s; its store is %s", n, name, id))
		}
		if held[id] > 0 {
			list = append(list, fmt.Sprintf("up to %d records of hosts that are asked about were received, and not stored yet, by %s; its store is %s", held[id], name, id))
		}
	}
	return list, nil
}

// count counts the events that match.
func (b *bundling) count(ctx context.Context, q *query.Query) (n int64, err error) {
	if q.Countable() {
		sum, err := b.head.Tally(ctx, q, nil, func(*event.Event) error { n++; return nil })
		if err != nil {
			return 0, err
		}
		return sum.Events + n, nil
	}
	err = b.head.Scan(ctx, q, func(*event.Event) error { n++; return nil })
	return n, err
}

// logged is a batch by its leaf, or what it has of a class.
type logged struct {
	batch, events uint64
	part          string
	day           store.Day
	class         string
	of            store.Divided
}

const (
	// mostLogged is how many batches are compared by their number of events: years of one a minute.
	mostLogged = 1 << 20
	// mostTaken is how many of those that lack some are named.
	mostTaken = 5
)

// takenOut says which batches of the time asked have fewer events than the log says, which were dropped, and by whose word, and how many were only counted: touched says of which
// an event was found, whose root is compared.
func (b *bundling) takenOut(ctx context.Context, m *evidence.Making, far store.Rereader, touched func(batch uint64) bool) (all []string, err error) {
	if b.log == nil || m.Size == 0 {
		return nil, nil // nothing says so that anybody has signed
	}
	list, err := b.asked(ctx, m)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	from, to := list[0].day, list[0].day
	for _, l := range list {
		from, to = min(from, l.day), max(to, l.day)
	}
	days, drops, err := b.onDays(ctx, m.Size, from, to)
	if errors.Is(err, errTooMany) {
		return []string{fmt.Sprintf("whether events were taken out of the cluster was not looked at: the log has more than %d batches of these days", mostLogged)}, nil
	}
	if err != nil {
		return nil, err
	}
	there, err := far.Counts(ctx, from, to)
	if err != nil {
		return nil, err
	}
	gone, err := b.dropped(ctx, drops)
	if err != nil {
		return nil, err
	}
	still := map[store.Day]map[string][]uint64{} // by store.ClassKey: batches of which something is there, ascending
	for day, of := range days {
		still[day] = map[string][]uint64{}
		for i := range of {
			if x := &of[i]; x.of.CountIn(there[x.batch]) > 0 {
				still[day][store.ClassKey(x.class)] = append(still[day][store.ClassKey(x.class)], x.batch)
			}
		}
		for _, batches := range still[day] {
			slices.Sort(batches)
		}
	}
	aside := map[uint64]bool{}
	if a, err := store.Able[store.Asider](b.store, "say what was set aside"); err == nil {
		aside = a.SetAside()
	}
	var fewer, never, counted, own, told lacking
	classes := map[string]*[2]lacking{} // of those that were dropped class by class: by this collector's word, and by the cluster's
	classOf := func(l *logged) *[2]lacking {
		if classes[l.class] == nil {
			classes[l.class] = &[2]lacking{}
		}
		return classes[l.class]
	}
	for _, l := range list {
		is := l.of.CountIn(there[l.batch])
		if is >= l.events {
			if !touched(l.batch) {
				counted.add(l, l.events)
			}
			continue
		}
		mine, dropped := isDropped(gone, &l, still[l.day])
		switch {
		case aside[l.batch] && is == 0:
			never.add(l, l.events)
		case dropped && l.class != "" && mine:
			classOf(&l)[0].add(l, l.events)
		case dropped && l.class != "":
			classOf(&l)[1].add(l, l.events)
		case dropped && mine:
			own.add(l, l.events)
		case dropped:
			told.add(l, l.events)
		default:
			fewer.add(l, l.events-is)
			if fewer.batches <= mostTaken {
				of := ""
				if l.class != "" {
					of = fmt.Sprintf(" of the class %q", l.class)
				}
				fewer.said = append(fewer.said, fmt.Sprintf("batch %d of %s had %d events%s and has %d", l.batch, l.part, l.events, of, is))
			}
		}
	}
	if n := fewer.batches - mostTaken; n > 0 {
		fewer.said = append(fewer.said, fmt.Sprintf("so have %d other batches", n))
	}
	if own.batches > 0 {
		all = append(all, fmt.Sprintf("%s of that time with %d events, perhaps some that were asked for, were dropped with their days by this collector, as its log says", own.names(), own.events))
	}
	if told.batches > 0 {
		all = append(all, fmt.Sprintf("%s of that time with %d events, perhaps some that were asked for, were dropped with their days as the cluster says: that is the word of whoever may write there", told.names(), told.events))
	}
	for _, class := range slices.Sorted(maps.Keys(classes)) {
		for i, whose := range []string{"by this collector, as its log says", "as the cluster says: that is the word of whoever may write there"} {
			if x := &classes[class][i]; x.batches > 0 {
				all = append(all, fmt.Sprintf("what %s of that time had of the class %q, %d events, perhaps some that were asked for, was dropped %s", x.names(), class, x.events, whose))
			}
		}
	}
	if never.batches > 0 {
		all = append(all, fmt.Sprintf("%s of that time with %d events, perhaps some that were asked for, were set aside as damaged, never delivered to the cluster", never.names(), never.events))
	}
	if counted.batches > 0 {
		all = append(all, fmt.Sprintf("of %d batches of that time with %d events none was found: these were only counted, and compared with nothing (collector verify --checkpoint does that)", counted.batches, counted.events))
	}
	if fewer.batches > 0 {
		all = append(all, fmt.Sprintf("at least %d events of that time, perhaps some that were asked for, were %s of the cluster since they were stored, by the log: %s", fewer.events, evidence.TakenOut, strings.Join(fewer.said, ", ")))
	}
	return all, nil
}

// errTooMany says that the log has more batches than are compared.
var errTooMany = errors.New("too many batches")

// elsewhere returns the part of a leaf whose events are in the cluster.
func elsewhere(l *seal.Leaf) (part store.Part, ok bool) {
	if l.Flags&seal.Elsewhere == 0 {
		return part, false
	}
	part, err := store.ParsePart(strings.TrimPrefix(l.Part, seal.ClusterPart))
	return part, err == nil
}

// loggedOf returns what the leaf of a batch says of it: once, or of each of its classes. Few leaves have words, so the others are not read to their end.
func loggedOf(l *seal.Leaf, text []byte, day store.Day) (list []logged) {
	words := ""
	if bytes.Contains(text, []byte(store.WordsBegin)) {
		if whole, err := seal.ParseLeaf(text); err == nil {
			words = whole.Why
		}
	}
	for _, d := range store.DividedOf(words, l.Events) {
		list = append(list, logged{l.Batch, d.Events, l.Part, day, d.Name, d})
	}
	return list
}

// asked returns the batches of the cluster that the log has and that may have events that are asked for.
func (b *bundling) asked(ctx context.Context, m *evidence.Making) (list []logged, err error) {
	q := m.Query
	to := int64(math.MaxInt64)
	if q.EndMs != 0 {
		to = q.EndMs
	}
	_, err = b.log.Walk(ctx, 0, m.Size, func(r *seal.Row) bool { return r.HasTime(q.StartMs, to) }, func(_ int64, l *seal.Leaf, text []byte) bool {
		part, ok := elsewhere(l)
		if !ok || l.Kind != seal.Batch || l.MaxMs < q.StartMs || l.MinMs > to {
			return true
		}
		if len(q.Nodes) > 0 { // a leaf that cannot be read may be of any host
			if whole, err := seal.ParseLeaf(text); err == nil && !hasHosts(whole, q) {
				return true
			}
		}
		list = append(list, loggedOf(l, text, part.Day)...)
		return len(list) <= mostLogged
	})
	return list, err
}

// onDays returns all batches of the cluster on some days, also of other times, and what the log says of parts of these days that were dropped. Error: errTooMany.
func (b *bundling) onDays(ctx context.Context, size int64, from, to store.Day) (days map[store.Day][]logged, drops map[store.Part][]*seal.Leaf, err error) {
	days, drops = map[store.Day][]logged{}, map[store.Part][]*seal.Leaf{}
	n := 0
	_, err = b.log.Walk(ctx, 0, size, func(r *seal.Row) bool { return r.HasDay(from.String(), to.String()) }, func(_ int64, l *seal.Leaf, text []byte) bool {
		part, ok := elsewhere(l)
		if !ok || part.Day < from || part.Day > to {
			return true
		}
		switch l.Kind {
		case seal.Batch:
			of := loggedOf(l, text, part.Day)
			days[part.Day] = append(days[part.Day], of...)
			n += len(of)
		case seal.Dropped:
			if whole, err := seal.ParseLeaf(text); err == nil {
				drops[part] = append(drops[part], whole)
			}
		}
		return n <= mostLogged
	})
	if err == nil && n > mostLogged {
		err = errTooMany
	}
	return days, drops, err
}

// lacking are batches of which something is not as it was, or not known.
type lacking struct {
	batches     int
	events      uint64
	first, last []uint64 // of batches that follow one another in the list
	said        []string
}

func (x *lacking) add(l logged, events uint64) {
	x.events += events
	n := len(x.last)
	if n > 0 && x.last[n-1] == l.batch { // another class of it
		return
	}
	if x.batches++; n > 0 && x.last[n-1]+1 == l.batch {
		x.last[n-1] = l.batch
		return
	}
	x.first, x.last = append(x.first, l.batch), append(x.last, l.batch)
}

// names names them, the first rows of them.
func (x *lacking) names() string {
	var list []string
	for i := range min(len(x.first), mostTaken) {
		if x.first[i] == x.last[i] {
			list = append(list, fmt.Sprint(x.first[i]))
		} else {
			list = append(list, fmt.Sprintf("%d to %d", x.first[i], x.last[i]))
		}
	}
	if len(x.first) > mostTaken {
		list = append(list, "others")
	}
	return fmt.Sprintf("%d batches (%s)", x.batches, strings.Join(list, ", "))
}

// droppedRow is a row of batches that went with a part.
type droppedRow struct {
	day         store.Day
	class       string
	first, last uint64
	own         bool // this collector has noted that it dropped the part
}

// dropped returns the rows that the log has by the collector's own word, and those that where the events are says.
func (b *bundling) dropped(ctx context.Context, leaves map[store.Part][]*seal.Leaf) (list []droppedRow, err error) {
	for part, of := range leaves {
		for _, l := range of {
			list = append(list, droppedRow{part.Day, seal.DroppedClass(l.Why), l.First, l.Last, !strings.HasPrefix(l.Why, seal.ClusterWord)})
		}
	}
	d, err := store.Able[store.Dropping](b.store, "say which parts are dropped")
	if errors.Is(err, store.ErrUnable) {
		return list, nil
	}
	drops, err := d.Drops(ctx)
	for i := range drops {
		list = append(list, droppedRow{drops[i].Part.Day, drops[i].Class, drops[i].First, drops[i].Last, false})
	}
	return list, err
}

// isDropped reports whether a batch went with a part, and whether that is the collector's own word; see store.WentOf.
func isDropped(list []droppedRow, l *logged, there map[string][]uint64) (own, is bool) {
	for _, d := range list {
		if went, _ := store.WentOf(l.batch, l.class, d.class, d.first, d.last, there); went && d.day == l.day {
			own, is = own || d.own, true
		}
	}
	return own, is
}

// hasHosts reports whether a batch may have events of hosts that are asked about.
func hasHosts(l *seal.Leaf, q *query.Query) bool {
	if len(q.Nodes) == 0 || uint64(len(l.Hosts)) < l.AllHosts {
		return true
	}
	return slices.ContainsFunc(l.Hosts, func(h seal.HostCount) bool { return h.Name == "" || q.WantsNode(h.Name) })
}
