package head

import (
	"context"
	"errors"
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// merging is an answer that is made of the store's events and of those in memory.
type merging struct {
	ctx     context.Context
	m       *query.Matcher
	refs    []store.Ref // in memory
	reverse bool
	fn      func(*store.Ref, *event.Event) error // is given those of refs that match
	stopped error                                // by whoever is given the events
}

// answer merges the store's events and those in memory.
func answer(ctx context.Context, q *query.Query, snap store.Snapshot, refs []store.Ref, fn func(*event.Event) error) error {
	m := merging{ctx: ctx, m: query.NewMatcher(q), refs: refs, reverse: q.Reverse, fn: func(_ *store.Ref, ev *event.Event) error { return fn(ev) }}
	return m.merge(func() error {
		return snap.Scan(ctx, q, func(ev *event.Event) error {
			if len(m.refs) > 0 {
				if err := m.until(query.KeyOf(ev)); err != nil {
					return err
				}
			}
			return m.stop(fn(ev))
		})
	})
}

// merge calls scan, which gives out the store's events: before each of them it calls until
// with its key, and it hands every error of who gets them to stop.
func (m *merging) merge(scan func() error) error {
	inOrder(m.refs, m.reverse)
	err := scan()
	switch {
	case errors.Is(m.stopped, query.ErrStop):
		return nil
	case m.stopped != nil:
		return m.stopped
	case err != nil && !errors.Is(err, store.ErrDamaged):
		return err
	}
	for len(m.refs) > 0 {
		if rest := m.one(); rest != nil {
			if errors.Is(rest, query.ErrStop) {
				return nil
			}
			return rest
		}
	}
	return err
}

// inOrder puts events of memory in the order of an answer.
func inOrder(refs []store.Ref, reverse bool) {
	slices.SortStableFunc(refs, func(a, b store.Ref) int { return a.Compare(b.Key) })
	if reverse {
		slices.Reverse(refs)
	}
}

// stop notes what ends the scan.
func (m *merging) stop(err error) error {
	m.stopped = err
	return err
}

// until gives what goes before an event of the store. Of equal events the
// store's is the earlier one.
func (m *merging) until(k query.Key) error {
	for len(m.refs) > 0 && (!m.reverse && m.refs[0].Compare(k) < 0 || m.reverse && m.refs[0].Compare(k) >= 0) {
		if err := m.one(); err != nil {
			return m.stop(err)
		}
	}
	return nil
}

func (m *merging) one() error {
	ref := &m.refs[0]
	m.refs = m.refs[1:]
	ev := ref.Event()
	if !m.m.Match(ev) {
		return m.ctx.Err()
	}
	return m.fn(ref, ev)
}
