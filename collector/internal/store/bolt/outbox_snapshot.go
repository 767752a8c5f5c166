package bolt

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Snapshot returns what the engine has together with what waits for it.
func (o *Outbox) Snapshot(ctx context.Context) (store.Snapshot, error) {
	// What waits is looked at before the engine's: what is handed over in between is in both, and left out here by its ID.
	p := o.pin()
	waits, err := o.local.Snapshot(ctx)
	if err != nil {
		o.unpin(p)
		return nil, err
	}
	last := min(o.local.lastGroup(), waits.LastID())
	snap, err := o.engine.Snapshot(ctx)
	if err != nil || last <= snap.LastID() {
		o.unpin(p)
		err = errors.Join(err, waits.Close())
	} else {
		o.narrow(p, snap.LastID(), last)
		snap = &outboxSnapshot{Snapshot: snap, waits: waits, last: last, unpin: func() { o.unpin(p) }}
	}
	if err != nil {
		return nil, err
	}
	if broken := o.local.Missing(); len(broken) > 0 {
		snap = &lackingSnapshot{snap, broken}
	}
	return snap, nil
}

// outboxSnapshot is an engine's snapshot, and the groups behind it.
type outboxSnapshot struct {
	store.Snapshot
	waits store.Snapshot // has older groups, too, which the engine has
	last  uint64
	unpin func()
}

// LastID returns the ID of the last group.
func (s *outboxSnapshot) LastID() uint64 { return s.last }

// Close lets go of the groups, which may be deleted now.
func (s *outboxSnapshot) Close() error {
	err := errors.Join(s.Snapshot.Close(), s.waits.Close())
	s.unpin()
	return err
}

// waiting is the query for what waits.
func (s *outboxSnapshot) waiting(q *query.Query) *query.Query {
	w := *q
	w.AfterBatch = max(q.AfterBatch, s.Snapshot.LastID())
	return &w
}

// Scan gives the events of both, in order.
func (s *outboxSnapshot) Scan(ctx context.Context, q *query.Query, fn func(*event.Event) error) error {
	if q.Theirs {
		return s.Snapshot.Scan(ctx, q, fn)
	}
	return interleave(q.Reverse, func(ev *event.Event) (query.Key, uint64) { return query.KeyOf(ev), ev.Batch }, fn,
		func(fn func(*event.Event) error) error { return s.Snapshot.Scan(ctx, q, fn) },
		func(fn func(*event.Event) error) error { return s.waits.Scan(ctx, s.waiting(q), fn) })
}

// ScanText implements store.TextScanner.
func (s *outboxSnapshot) ScanText(ctx context.Context, q *query.Query, fn func(*store.Found) error) error {
	if q.Theirs {
		return store.ScanText(ctx, s.Snapshot, q, fn)
	}
	return interleave(q.Reverse, func(f *store.Found) (query.Key, uint64) { return f.Key, f.Batch }, fn,
		func(fn func(*store.Found) error) error { return store.ScanText(ctx, s.Snapshot, q, fn) },
		func(fn func(*store.Found) error) error { return store.ScanText(ctx, s.waits, s.waiting(q), fn) })
}

// Tally adds up what both count.
func (s *outboxSnapshot) Tally(ctx context.Context, q *query.Query, fields []query.Field, rest func(*event.Event) error) (*query.Tally, error) {
	sum, err := s.Snapshot.Tally(ctx, q, fields, rest)
	if err != nil || q.Theirs {
		return sum, err
	}
	more, err := s.waits.Tally(ctx, s.waiting(q), fields, rest)
	if err != nil {
		return nil, err
	}
	sum.Merge(more)
	return sum, nil
}

// interleave gives what two scans give, in the order of both. Of the second one, one is taken at a time. Of equal ones the first scan's is the earlier.
func interleave[T any](reverse bool, key func(T) (query.Key, uint64), fn func(T) error, first, second func(func(T) error) error) error {
	var failed error // of the second scan
	next, stop := iter.Pull(func(yield func(T) bool) {
		failed = second(func(x T) error {
			if !yield(x) {
				return query.ErrStop
			}
			return nil
		})
	})
	defer stop()
	x, more := next()
	// An answer that ends early must not hide that it lacks something.
	broken := func() bool { return !more && failed != nil && !errors.Is(failed, store.ErrDamaged) }
	if broken() {
		return failed
	}
	// before says whether x goes before y.
	before := func(y T) bool {
		kx, bx := key(x)
		ky, by := key(y)
		c := cmp.Or(kx.Compare(ky), cmp.Compare(bx, by))
		return !reverse && c < 0 || reverse && c >= 0
	}
	var theirs error // of who gets what was found
	give := func(x T) error {
		theirs = fn(x)
		return theirs
	}
	err := first(func(y T) error {
		for more && before(y) {
			if err := give(x); err != nil {
				return err
			}
			if x, more = next(); broken() {
				return failed
			}
		}
		return give(y)
	})
	if theirs != nil || err != nil && !errors.Is(err, store.ErrDamaged) {
		return err
	}
	for ; more; x, more = next() {
		if err := fn(x); errors.Is(err, query.ErrStop) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return errors.Join(err, failed)
}

// Stats returns the engine's sizes, and of what waits how many events it has and when they happened.
func (o *Outbox) Stats(ctx context.Context) (store.Stats, error) {
	o.mu.Lock()
	through := o.through
	o.mu.Unlock()
	list := o.local.entriesAfter(through) // before the engine is asked, as for a snapshot
	st, err := o.engine.Stats(ctx)
	if err != nil {
		return st, err
	}
	for _, p := range st.Parts {
		through = max(through, p.LastID)
	}
	for _, e := range list {
		if e.id > through {
			addWaiting(&st, e)
		}
	}
	slices.SortFunc(st.Parts, func(a, b store.PartStats) int { return a.Compare(b.Part) })
	return st, nil
}

// addWaiting adds a group to the day's last part that is of no class; to one of its own where none is written.
func addWaiting(st *store.Stats, e waitingGroup) {
	var p *store.PartStats
	n := 0
	for i := range st.Parts {
		if x := &st.Parts[i]; x.Day == e.day {
			n = max(n, x.N)
			if !x.Sealed && x.Class == "" {
				p = x
			}
		}
	}
	if p == nil {
		st.Parts = append(st.Parts, store.PartStats{Part: store.Part{Day: e.day, N: n + 1}, Received: e.day})
		p = &st.Parts[len(st.Parts)-1]
	}
	p.LastID = e.id
	for _, to := range []struct {
		events, records, bytes *uint64
		least, most            *int64
	}{{&st.Events, &st.Records, &st.RawBytes, &st.MinMs, &st.MaxMs}, {&p.Events, &p.Records, &p.RawBytes, &p.MinMs, &p.MaxMs}} {
		*to.events, *to.records, *to.bytes = *to.events+e.sum.Events, *to.records+e.sum.Records, *to.bytes+e.sum.RawBytes
		if e.sum.FirstMs != 0 && (*to.least == 0 || e.sum.FirstMs < *to.least) {
			*to.least = e.sum.FirstMs
		}
		*to.most = max(*to.most, e.sum.MaxMs)
	}
}

// PartHosts implements store.Events.
func (o *Outbox) PartHosts(ctx context.Context, part store.Part, fn func(host string)) error {
	days := o.local.partsOf(part.Day)
	err := o.engine.PartHosts(ctx, part, fn)
	if errors.Is(err, store.ErrNoDay) && len(days) > 0 {
		err = nil
	}
	for _, p := range days {
		if lerr := o.local.PartHosts(ctx, p, fn); lerr != nil && !errors.Is(lerr, store.ErrNoDay) {
			err = errors.Join(err, lerr)
		}
	}
	return err
}

// partsOf returns the partitions of a day that have groups.
func (s *Store) partsOf(day store.Day) (list []store.Part) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.parts {
		if p.part.Day == day && len(p.entries) > 0 {
			list = append(list, p.part)
		}
	}
	return list
}
