package api

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/query"
)

const (
	// maxCalls bounds the calls with long answers that run at a time, and so the memory
	// that their answers take.
	maxCalls = 32
	// maxRemote is how many of these callers of other machines may have together, and maxOfName
	// those whose certificates have one name: a caller that follows keeps its place for as
	// long as it likes.
	maxRemote = 24
	maxOfName = 8
	// mayStall is how long a caller may take nothing of its answer when another call wants
	// its place, maxStall how long in any case: a search that stands still keeps the files
	// of days that are dropped meanwhile.
	mayStall = time.Minute
	maxStall = 30 * time.Minute
	// callMemory bounds what one call keeps in memory to answer, such as the values that
	// it counts, and allMemory that of all calls, in bytes.
	callMemory = 256 << 20
	allMemory  = 1 << 30
)

// errSlow is why a call ends whose answer nobody takes.
var errSlow = errors.New("the search was ended: its answer was not taken")

// call is a call whose answer is a stream. One goroutine works on it and sends; calls.enter
// reads since from another call's.
type call struct {
	who    string // the caller's name, as its certificate has it; "" for one of this machine
	ctx    context.Context
	end    context.CancelCauseFunc // ends ctx, with the reason
	memory *query.Memory           // for what the answer is made of

	mu    sync.Mutex // guards since; taken within calls.mu
	since time.Time  // when the response that the caller has not taken was sent; zero without one
}

// send hands a response to the stream and waits until the caller has taken it, the call has
// ended or maxStall has passed. After an error the goroutine that it has started may go on
// for as long as the call does, so response must not use what the caller changes.
func (c *call) send(response func() error) error {
	c.sending(time.Now())
	defer c.sending(time.Time{})
	// A stream's Send waits for the caller and cannot be interrupted; it returns when the
	// call does.
	sent := make(chan error, 1)
	go func() { sent <- response() }()
	stall := time.NewTimer(maxStall)
	defer stall.Stop()
	select {
	case err := <-sent:
		return err
	case <-stall.C:
		c.end(fmt.Errorf("%w for %v", errSlow, maxStall))
	case <-c.ctx.Done():
	}
	return context.Cause(c.ctx)
}

// sending notes since when a response waits for the caller.
func (c *call) sending(since time.Time) {
	c.mu.Lock()
	c.since = since
	c.mu.Unlock()
}

// calls has the calls that run.
type calls struct {
	mu     sync.Mutex // guards all
	all    map[*call]struct{}
	memory *query.Memory // of all together; set with all
}

// named is what a transport's handshake knows of a caller of another machine.
type named interface{ Caller() string }

// callerOf returns the name of a call's caller, "" for one of this machine.
func callerOf(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok {
		if n, ok := p.AuthInfo.(named); ok {
			return n.Caller()
		}
	}
	return ""
}

// share bounds the calls of some callers.
type share struct {
	most int
	has  func(who string) bool
	full string
}

// sharesOf returns what bounds the calls of a caller, the narrowest first.
func sharesOf(who string) []share {
	all := share{maxCalls, func(string) bool { return true }, "%d searches run already: try again"}
	if who == "" {
		return []share{all}
	}
	return []share{
		{maxOfName, func(other string) bool { return other == who }, "%d searches of this certificate's name run already: end one of them, or try again"},
		{maxRemote, func(other string) bool { return other != "" }, "%d searches of other machines run already: try again"},
		all,
	}
}

// enter gives c a place among the calls, and memory. When there is none left of a share, it ends
// the call of it whose response has waited longest for its caller, at least mayStall; it fails
// when there is no such call.
func (s *calls) enter(c *call) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all, s.memory = map[*call]struct{}{}, query.NewMemory(allMemory, nil)
	}
	for _, part := range sharesOf(c.who) {
		if err := s.makeRoom(part); err != nil {
			return err
		}
	}
	s.all[c] = struct{}{}
	c.memory = query.NewMemory(callMemory, s.memory)
	return nil
}

// makeRoom sees to it that a share has room for one more; mu is held.
func (s *calls) makeRoom(part share) error {
	var slowest *call
	n, at := 0, time.Now().Add(-mayStall)
	for other := range s.all {
		if !part.has(other.who) {
			continue
		}
		n++
		other.mu.Lock()
		if since := other.since; !since.IsZero() && since.Before(at) {
			slowest, at = other, since
		}
		other.mu.Unlock()
	}
	switch {
	case n < part.most:
		return nil
	case slowest == nil:
		return fmt.Errorf(part.full, part.most)
	}
	slowest.end(fmt.Errorf("%w for %v, and others wait", errSlow, time.Since(at).Round(time.Second)))
	delete(s.all, slowest)
	return nil
}

// leave gives c's place back.
func (s *calls) leave(c *call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, c)
}

// run does a call within the bounds that all calls have: the version, a place among the calls,
// memory. Its error is a status that a client can tell apart.
func (s *Service) run(ctx context.Context, version uint32, do func(*call) error) error {
	if err := checkVersion(version); err != nil {
		return toStatus(err)
	}
	ctx, lacking := NoteLacks(ctx)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c := &call{who: callerOf(ctx), ctx: ctx, end: cancel}
	if err := s.calls.enter(c); err != nil {
		return status.Error(codes.ResourceExhausted, err.Error())
	}
	watchedOf(ctx).enters()
	defer s.calls.leave(c)
	defer c.memory.Release()
	err := do(c)
	sendLacks(ctx, lacking())
	if cause := context.Cause(ctx); errors.Is(cause, errSlow) {
		return status.Error(codes.Aborted, cause.Error())
	}
	return toStatus(err)
}

// toStatus returns an error as a status whose code Client.failed makes the same error of.
func toStatus(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrDamaged):
		return status.Error(codes.DataLoss, err.Error())
	case errors.Is(err, ErrQuery), errors.Is(err, query.ErrQuery):
		return status.Error(codes.InvalidArgument, err.Error())
	case errors.Is(err, query.ErrMemory):
		return status.Error(codes.ResourceExhausted, err.Error())
	case errors.Is(err, query.ErrNotLive):
		return status.Error(codes.FailedPrecondition, err.Error())
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, err.Error())
	}
	if _, ok := status.FromError(err); ok {
		return err // the stream's own
	}
	return status.Error(codes.Internal, err.Error())
}
