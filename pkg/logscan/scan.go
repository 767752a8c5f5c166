package logscan

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Config says what to scan for, and how.
type Config struct {
	// Query selects the events; nil selects all.
	Query *query.Query
	// EOETimeout is how much younger a record must be to end an open event; 0 stands for
	// 2 s.
	EOETimeout time.Duration
	// Skipped, if set, is called with each line that is not a record with a time, and
	// with the reason. The line is valid during the call only. Calls do not overlap.
	Skipped func(line []byte, err error)
	// Text, if set, is called with all that is read, in pieces of whole lines. Calls come
	// from several goroutines at once and in no order; a piece is valid during the call
	// only.
	Text func(text []byte)
	// Workers is the number of goroutines that process events; 0 stands for one for each
	// core.
	Workers int
}

func (c *Config) workers() int {
	if c.Workers > 0 {
		return c.Workers
	}
	return runtime.GOMAXPROCS(0)
}

// A Worker does the share of one goroutine in a scan. Scan calls its methods from one
// goroutine only. It receives batches of events that are consecutive in the order of the
// whole scan. Other workers have other batches at the same time, so a worker must not
// interpret an event by the events before it.
type Worker[R any] interface {
	// Event processes the next event of a batch. The event and its bytes are valid during
	// the call only.
	Event(ev *event.Event) error
	// Flush ends a batch and returns the batch's result, which then belongs to deliver:
	// the worker must not use it again. It is called only if there is a deliver.
	Flush() (R, error)
}

// Scan passes every event that the query finds to one of several workers, and the result
// of each batch to deliver, in the order of the events.
//
// For a listing, a worker formats and deliver writes. For sums, deliver is nil: each
// worker adds up its own events, and the caller adds up the workers that newWorker made.
// Scan calls newWorker and deliver from the caller's goroutine, newWorker before any
// event. When Scan returns, no worker runs any more, so the caller may then read the
// workers' state without a lock.
//
// Memory grows with the number of events open at the same time, not with the size of the
// logs. Of a damaged compressed log Scan reads everything that can be unpacked, and
// returns the error at the end.
func Scan[R any](ctx context.Context, logs *Logs, cfg Config, newWorker func() (Worker[R], error), deliver func(R) error) error {
	p := &scanner{logs: logs.readers, n: cfg.workers(), filter: newPrefilter(cfg.Query), text: cfg.Text}
	p.cfg = ReadConfig{EOETimeout: cfg.EOETimeout, Skipped: cfg.Skipped}
	if cfg.Query != nil {
		p.cfg.StartMs, p.cfg.EndMs = cfg.Query.StartMs, cfg.Query.EndMs
	}
	if err := inOrder(ctx, cfg, p.run, newWorker, deliver); err != nil {
		return err
	}
	return logs.Damage()
}

// job is a batch that a worker processes. The worker writes value and err and then closes
// done; collect reads them after it has received from done.
type job[R any] struct {
	batch *batch
	done  chan struct{}
	value R
	err   error
}

// inOrder runs produce, which emits batches; passes each batch to a worker; and passes
// the worker's result to deliver, in the order of the batches.
//
// Each job is sent to two channels, first to ordered, then to todo. collect reads
// ordered, so it sees the jobs in the order of the batches whichever worker finishes
// first. A job in ordered always gets done: produce sends it to todo without looking at
// ctx, and the workers read todo until it is closed. ordered is bounded, so no more than
// 4 jobs a worker wait for delivery. On every return, cancel runs first and wg.Wait after
// it: no goroutine is left.
func inOrder[R any](ctx context.Context, cfg Config, produce func(ctx context.Context, emit func(*batch) error) error, newWorker func() (Worker[R], error), deliver func(R) error) error {
	ctx, cancel := context.WithCancel(ctx)
	n := cfg.workers()
	workers := make([]Worker[R], n)
	for i := range workers {
		w, err := newWorker()
		if err != nil {
			cancel()
			return err
		}
		workers[i] = w
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	todo, ordered := make(chan *job[R], n), make(chan *job[R], 4*n)
	var produced error // valid when ordered is closed
	wg.Go(func() {
		defer close(ordered)
		defer close(todo)
		produced = produce(ctx, func(b *batch) error {
			j := &job[R]{batch: b, done: make(chan struct{})}
			select {
			case ordered <- j:
			case <-ctx.Done():
				b.done()
				return ctx.Err()
			}
			todo <- j // a worker always comes
			return nil
		})
	})
	for _, w := range workers {
		wg.Go(func() {
			work := jobs[R]{ctx: ctx, w: w, flush: deliver != nil}
			if cfg.Query != nil {
				work.m = query.NewMatcher(cfg.Query)
			}
			for j := range todo {
				j.value, j.err = work.do(j.batch)
				close(j.done)
			}
		})
	}
	err := collect(ordered, deliver)
	if err == nil {
		err = produced
	}
	switch {
	case errors.Is(err, query.ErrStop):
		return nil
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("search: %w", ctx.Err())
	}
	return err
}

// collect delivers in order until the first error.
func collect[R any](ordered <-chan *job[R], deliver func(R) error) error {
	for j := range ordered {
		<-j.done
		if j.err != nil && !errors.Is(j.err, query.ErrStop) {
			return j.err
		}
		if deliver != nil {
			if err := deliver(j.value); err != nil {
				return err
			}
		}
		if j.err != nil {
			return j.err
		}
	}
	return nil
}

// jobs is a worker with the Matcher that selects its events. It belongs to one goroutine.
type jobs[R any] struct {
	ctx   context.Context
	w     Worker[R]
	m     *query.Matcher // nil: every event
	flush bool
}

func (s *jobs[R]) do(b *batch) (value R, err error) {
	defer b.done()
	if err := s.ctx.Err(); err != nil {
		return value, err
	}
	stopped := b.events(func(ev *event.Event) error {
		if s.m != nil && !s.m.Match(ev) {
			return nil
		}
		return s.w.Event(ev)
	})
	if stopped != nil && !errors.Is(stopped, query.ErrStop) || !s.flush {
		return value, stopped
	}
	if value, err = s.w.Flush(); err != nil {
		return value, err
	}
	return value, stopped
}
