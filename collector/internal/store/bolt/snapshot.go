package bolt

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// snapshot is the groups there were at one moment. Groups never change, so it
// needs no transaction; it only keeps dropped files open.
type snapshot struct {
	s      *Store
	id     uint64
	parts  []partView
	broken []error
	closed bool
}

type partView struct {
	p       *partition
	entries []entry
}

// Snapshot is the store as it is now.
func (s *Store) Snapshot(ctx context.Context) (store.Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, store.ErrClosed
	}
	sn := &snapshot{s: s, id: s.state.ID, broken: slices.Clone(s.broken)}
	for _, p := range s.parts {
		p.refs++
		sn.parts = append(sn.parts, partView{p, p.entries})
	}
	return sn, nil
}

func (sn *snapshot) LastID() uint64 { return sn.id }

// concerns says whether a group may have an answer to a query, by its summary.
func (sn *snapshot) concerns(e *entry, q *query.Query) bool {
	return e.id <= sn.id && e.id > q.AfterBatch && (q.StartMs == 0 || e.sum.MaxMs >= q.StartMs) && (q.EndMs == 0 || e.sum.MinMs <= q.EndMs)
}

// Close lets go of dropped partitions.
func (sn *snapshot) Close() error {
	sn.s.mu.Lock()
	defer sn.s.mu.Unlock()
	if sn.closed {
		return nil
	}
	sn.closed = true
	var errs []error
	for _, v := range sn.parts {
		if v.p.refs--; v.p.refs == 0 && v.p.dropped {
			errs = append(errs, v.p.close())
		}
	}
	return errors.Join(errs...)
}

// Scan gives fn the matching events in order.
func (sn *snapshot) Scan(ctx context.Context, q *query.Query, fn func(*event.Event) error) error {
	sc := newScan(ctx, sn, q)
	err := sc.run(fn)
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
