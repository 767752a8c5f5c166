package importing

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/auditfleet/auditfleet/pkg/oldlogs"
)

// readAhead hands calls to a sink in a goroutine of its own, so that logs are read while it works. The first error
// of a call is returned by the next one, and ends what follows.
type readAhead struct {
	Sink
	calls chan func() error
	done  sync.WaitGroup
	once  sync.Once

	mu  sync.Mutex // guards err
	err error
}

// aheadCalls is how many calls wait: as many chunks, 4 MB.
const aheadCalls = 32

func ahead(s Sink) *readAhead {
	a := &readAhead{Sink: s, calls: make(chan func() error, aheadCalls)}
	a.done.Go(func() {
		for f := range a.calls {
			if a.failed() != nil {
				continue
			}
			if err := f(); err != nil {
				a.mu.Lock()
				a.err = err
				a.mu.Unlock()
			}
		}
	})
	return a
}

func (a *readAhead) failed() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

func (a *readAhead) do(f func() error) error {
	if err := a.failed(); err != nil {
		return err
	}
	a.calls <- f
	return nil
}

// wait has all calls done. No other one may follow but End and Interrupt.
func (a *readAhead) wait() {
	a.once.Do(func() { close(a.calls) })
	a.done.Wait()
}

func (a *readAhead) Skip(ctx context.Context, records int64) error {
	ctx = context.WithoutCancel(ctx) // what was read is taken: then it is interrupted in good order
	return a.do(func() error { return a.Sink.Skip(ctx, records) })
}

func (a *readAhead) File(ctx context.Context, f FileBegin) error {
	ctx = context.WithoutCancel(ctx) // what was read is taken: then it is interrupted in good order
	return a.do(func() error { return a.Sink.File(ctx, f) })
}

func (a *readAhead) Chunk(ctx context.Context, text []byte, end int64, at oldlogs.Content) error {
	ctx = context.WithoutCancel(ctx) // what was read is taken: then it is interrupted in good order
	return a.do(func() error { return a.Sink.Chunk(ctx, text, end, at) })
}

func (a *readAhead) EndFile(ctx context.Context, at oldlogs.Content, whole bool) error {
	ctx = context.WithoutCancel(ctx) // what was read is taken: then it is interrupted in good order
	return a.do(func() error { return a.Sink.EndFile(ctx, at, whole) })
}

func (a *readAhead) End(ctx context.Context) (Sum, error) {
	a.wait()
	if err := a.failed(); err != nil {
		return brokenOff(ctx, a.Sink, err)
	}
	return a.Sink.End(ctx)
}

func (a *readAhead) Interrupt(ctx context.Context) (Sum, error) {
	a.wait()
	if err := a.failed(); err != nil {
		return brokenOff(ctx, a.Sink, err)
	}
	return a.Sink.Interrupt(ctx)
}

// brokenOff interrupts an import that has failed: what that says is wrong is err, or comes of it, but for ErrUnknown.
func brokenOff(ctx context.Context, s Sink, err error) (Sum, error) {
	sum, ierr := s.Interrupt(context.WithoutCancel(ctx))
	if errors.Is(ierr, ErrUnknown) && !errors.Is(err, ErrUnknown) {
		err = fmt.Errorf("%w; %w", err, ErrUnknown)
	}
	return sum, err
}
