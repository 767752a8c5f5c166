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

// Config is what to scan for, and how.
type Config struct {
	// Query lets through what it finds; nil is every event.
	Query *query.Query
	// EOETimeout is how much younger a record must be to end an event; 0 is 2 s.
	EOETimeout time.Duration
	// Skipped, if set, is told of each line that is no record with a time, and
	// why. The line is valid during the call only. Calls do not overlap.
	Skipped func(line []byte, err error)
	// Workers is how many goroutines look at events; 0 is one a core.
	Workers int
}

func (c *Config) workers() int {
	if c.Workers > 0 {
		return c.Workers
	}
	return runtime.GOMAXPROCS(0)
}

// A Worker does one goroutine's share of a scan. Events come to it in batches,
// each of which is a piece of the whole order; several workers have batches at
// the same time, so what an event means must not depend on the events before it.
type Worker[R any] interface {
	// Event takes the next event of a batch. The event and its bytes are valid
	// during the call only.
	Event(ev *event.Event) error
	// Flush ends a batch: it returns what the batch came to. What it returns is
	// not the worker's any more. It is called only when there is a deliver.
	Flush() (R, error)
}

// Scan gives every event of the logs that the query finds to one of several
// workers, and what each batch came to, in the order of the events, to deliver.
//
// For a listing, a worker formats and deliver writes. For sums, deliver is nil:
// each worker adds up for itself, and the caller adds up the workers it was asked
// to make. newWorker is called from the caller's goroutine, before any event;
// deliver is called from there, too. When Scan returns no worker runs.
//
// Memory does not grow with the logs, only with what is open at the same time. Of a
// compressed log that is damaged all that can be unpacked is read, and the error
// returned at the end.
func Scan[R any](ctx context.Context, logs *Logs, cfg Config, newWorker func() (Worker[R], error), deliver func(R) error) error {
	p := &scanner{logs: logs.readers, n: cfg.workers(), filter: newPrefilter(cfg.Query)}
	p.cfg = ReadConfig{EOETimeout: cfg.EOETimeout, Skipped: cfg.Skipped}
	if cfg.Query != nil {
		p.cfg.StartMs, p.cfg.EndMs = cfg.Query.StartMs, cfg.Query.EndMs
	}
	if err := inOrder(ctx, cfg, p.run, newWorker, deliver); err != nil {
		return err
	}
	return logs.Damage()
}

// job is a batch on its way through the workers.
type job[R any] struct {
	batch *batch
	done  chan struct{}
	value R
	err   error
}

// inOrder runs produce, which emits batches, gives each batch to a worker, and
// what the worker made of it to deliver, in the order of the batches.
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

// jobs is a worker with its matcher.
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
