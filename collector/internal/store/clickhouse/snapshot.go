package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// snapshot is what was stored at one moment: our batches up to the last one, those of other collectors up to when it is first read, but for parts
// that were dropped.
type snapshot struct {
	e      *Engine
	number uint64
	last   uint64
	hidden map[store.Part]bool
	once   sync.Once
}

// Snapshot returns the events as they are. It asks the cluster only where nothing is known of it yet.
func (e *Engine) Snapshot(ctx context.Context) (store.Snapshot, error) {
	a, err := e.current()
	if err == nil && a == nil {
		_, err = e.known(ctx, fresh)
	}
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.account == nil {
		return nil, fmt.Errorf("%w: a part of it was dropped just now, and not wholly: ask again", ErrCluster)
	}
	e.serial++
	e.open[e.serial] = true
	return &snapshot{e: e, number: e.serial, last: e.account.last[e.opts.Store].batch, hidden: e.hidden()}, nil
}

// LastID returns the ID of our last batch.
func (s *snapshot) LastID() uint64 { return s.last }

// Close lets go of parts that were dropped.
func (s *snapshot) Close() error {
	s.once.Do(func() {
		s.e.mu.Lock()
		delete(s.e.open, s.number)
		s.e.mu.Unlock()
		s.e.released()
	})
	return nil
}

// Scan gives matching events as events.
func (s *snapshot) Scan(ctx context.Context, q *query.Query, fn func(*event.Event) error) error {
	return s.scan(ctx, q, func(_ *store.Found, ev *event.Event) error { return fn(store.CloneEvent(ev)) })
}

// ScanText gives matching events as text. Each was parsed, to be matched.
func (s *snapshot) ScanText(ctx context.Context, q *query.Query, fn func(*store.Found) error) error {
	return s.scan(ctx, q, func(f *store.Found, _ *event.Event) error { return fn(f) })
}

// scan merges the shards' rows, and gives those that match; ev is valid until give returns.
func (s *snapshot) scan(ctx context.Context, q *query.Query, give func(f *store.Found, ev *event.Event) error) error {
	x, err := s.question(ctx, q)
	if err != nil {
		return err
	}
	if err := scan(ctx, q, x.readers(q.Reverse, ""), give); err != nil {
		return err
	}
	return s.still(ctx, x.account)
}

// scan merges the rows of readers, and gives those that match.
func scan(ctx context.Context, q *query.Query, list []*reader, give func(f *store.Found, ev *event.Event) error) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	m := newMerge(ctx, list)
	defer func() {
		cancel()
		m.wg.Wait() // a window that nobody takes waits for no more than the context's end
	}()
	match := query.NewMatcher(q)
	var last found
	var ev event.Event
	moved := &moving{reverse: q.Reverse, give: func(f *store.Found) error {
		store.ParseInto(&ev, f.Text, f.Counted, []byte(f.Host), f.Origin)
		ev.Batch = f.Batch
		if !match.Match(&ev) {
			return nil
		}
		return give(f, &ev)
	}}
	for first := true; ; first = false {
		f, err := m.next()
		if err == nil && f == nil {
			if err = moved.flush(); errors.Is(err, query.ErrStop) {
				err = nil
			}
		}
		if err != nil || f == nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if !first && f.compare(&last) == 0 {
			continue // it was inserted again, and parts were not merged yet
		}
		last = *f
		if err := moved.add(f); errors.Is(err, query.ErrStop) {
			return nil
		} else if err != nil {
			return err
		}
	}
}
