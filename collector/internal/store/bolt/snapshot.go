package bolt

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// snapshot is the list of groups that there were at one moment. Groups never change, and a
// partition's entries are replaced rather than changed, so it needs no transaction that
// lasts: each read of a group is a short one of its own. Its part in a partition's refs
// keeps the file of a dropped partition open.
type snapshot struct {
	s      *Store
	id     uint64 // the last batch
	parts  []partView
	cur    *partition // that is written; nil: none
	broken []error    // what Missing was
	closed bool       // guarded by Store.mu
}

// partView is a partition with the groups that it had.
type partView struct {
	p         *partition
	entries   []entry
	compacted *layout.Compacted
	place     uint64
}

// now returns the partition as it is; Store.mu is held.
func (p *partition) now() partView { return partView{p, p.entries, p.compacted, p.place} }

// Snapshot returns the store as it is now.
func (s *Store) Snapshot(ctx context.Context) (store.Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, store.ErrClosed
	}
	sn := &snapshot{s: s, id: s.state.ID, cur: s.cur, broken: slices.Clone(s.broken)}
	for _, p := range s.parts { // refs keeps its file readable until Close
		p.refs++
		sn.parts = append(sn.parts, p.now())
	}
	return sn, nil
}

func (sn *snapshot) LastID() uint64 { return sn.id }

// mayMatch reports whether a group may have an event that matches a query, by its batches
// and its summary.
func (sn *snapshot) mayMatch(e *entry, q *query.Query) bool {
	first, last := e.batches()
	return first <= sn.id && last > q.AfterBatch && inTimes(&e.sum, q)
}

// inTimes reports whether a group may have events of a query's times.
func inTimes(sum *group.Summary, q *query.Query) bool {
	return (q.StartMs == 0 || sum.MaxMs >= q.StartMs) && (q.EndMs == 0 || sum.MinMs <= q.EndMs)
}

// Close lets go of the partitions, and closes dropped ones that nobody else uses. It may be
// called again.
func (sn *snapshot) Close() error {
	sn.s.mu.Lock()
	if sn.closed {
		sn.s.mu.Unlock()
		return nil
	}
	sn.closed = true
	var last []*partition // of which this was the last use
	for _, v := range sn.parts {
		if v.p.refs--; v.p.refs == 0 && v.p.dropped {
			last = append(last, v.p)
			sn.s.lingering -= v.p.lingers
		}
	}
	sn.s.mu.Unlock()
	var errs []error
	for _, p := range last { // frees the file, which the disk may take its time for
		errs = append(errs, p.close())
	}
	return errors.Join(errs...)
}

// Scan calls fn with the matching events in order; see store.Snapshot.
func (sn *snapshot) Scan(ctx context.Context, q *query.Query, fn func(*event.Event) error) error {
	sc := newScan(ctx, sn, q, false, nil)
	sc.events(fn)
	return sc.all()
}

// all runs a scan to its end.
func (sc *scan) all() error {
	err := sc.run()
	sc.close()
	if errors.Is(err, query.ErrStop) {
		return nil
	}
	if err != nil {
		return err
	}
	if bad := sc.damage(); bad != nil {
		return fmt.Errorf("search: %w", bad)
	}
	return nil
}
