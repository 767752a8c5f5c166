package server

import (
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
	m.Lacks = func(ctx context.Context) (string, error) {
		var list []string
		if shared {
			said, err := b.others(ctx, asked, listed.Roster())
			if err != nil {
				return "", fmt.Errorf("ask what other collectors of the cluster have stored: %w", err)
			}
			list = append(list, said...)
		}
		said, err := b.takenOut(ctx, m, far)
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

// logged is a batch by its leaf.
type logged struct {
	batch, events uint64
	part          string
}

const (
	// mostLogged is how many batches of the time asked are compared by their number of events: years of one a minute.
	mostLogged = 1 << 20
	// mostTaken is how many of those that lack some are named.
	mostTaken = 5
)

// takenOut says which batches of the time asked have fewer events than the log says.
func (b *bundling) takenOut(ctx context.Context, m *evidence.Making, far store.Rereader) ([]string, error) {
	if b.log == nil || m.Size == 0 {
		return nil, nil // nothing says so that anybody has signed
	}
	q := m.Query
	var list []logged
	var from, to store.Day
	err := b.log.EachBatch(ctx, m.Size, func(l *seal.Leaf) bool {
		if l.Flags&seal.Elsewhere == 0 || l.MaxMs < q.StartMs || q.EndMs != 0 && l.MinMs > q.EndMs || !hasHosts(l, q) {
			return true
		}
		part, err := store.ParsePart(l.Part)
		if err != nil {
			return true
		}
		if len(list) == 0 {
			from, to = part.Day, part.Day
		}
		from, to = min(from, part.Day), max(to, part.Day)
		list = append(list, logged{l.Batch, l.Events, l.Part})
		return len(list) <= mostLogged
	})
	if err != nil || len(list) == 0 {
		return nil, err
	}
	if len(list) > mostLogged {
		return []string{fmt.Sprintf("whether events were taken out of the cluster was not looked at: the log has more than %d batches of that time", mostLogged)}, nil
	}
	there, err := far.Counts(ctx, from, to)
	if err != nil {
		return nil, err
	}
	dropped, err := droppedOf(ctx, b.store)
	if err != nil {
		return nil, err
	}
	var said []string
	batches, events := 0, uint64(0)
	for _, l := range list {
		is := there[l.batch]
		if is >= l.events || isDropped(dropped, &l) {
			continue
		}
		batches, events = batches+1, events+l.events-is
		if batches <= mostTaken {
			said = append(said, fmt.Sprintf("batch %d of %s had %d events and has %d", l.batch, l.part, l.events, is))
		}
	}
	if batches == 0 {
		return nil, nil
	}
	if batches > mostTaken {
		said = append(said, fmt.Sprintf("so have %d other batches", batches-mostTaken))
	}
	return []string{fmt.Sprintf("at least %d events of that time, perhaps some that were asked for, were %s of the cluster since they were stored, by the log: %s", events, evidence.TakenOut, strings.Join(said, ", "))}, nil
}

// droppedOf returns the parts that were dropped from where a store keeps its events.
func droppedOf(ctx context.Context, s store.Store) ([]store.DroppedPart, error) {
	d, err := store.Able[store.Dropping](s, "say which parts are dropped")
	if errors.Is(err, store.ErrUnable) {
		return nil, nil
	}
	return d.Drops(ctx)
}

func isDropped(list []store.DroppedPart, l *logged) bool {
	return slices.ContainsFunc(list, func(d store.DroppedPart) bool {
		part, err := store.ParsePart(l.part)
		return err == nil && d.Part.Day == part.Day && d.First <= l.batch && l.batch <= d.Last
	})
}

// hasHosts reports whether a batch may have events of hosts that are asked about.
func hasHosts(l *seal.Leaf, q *query.Query) bool {
	if len(q.Nodes) == 0 || uint64(len(l.Hosts)) < l.AllHosts {
		return true
	}
	return slices.ContainsFunc(l.Hosts, func(h seal.HostCount) bool { return h.Name == "" || q.WantsNode(h.Name) })
}
