package ship

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Sender ships a source's records to one server at a time.
type Sender struct {
	cfg Config
	src Source
	log hclog.Logger
	m   *Metrics

	resume chan struct{} // capacity 1
	ended  chan struct{} // closed when Run returns

	mu       sync.Mutex // guards all below
	win      *window
	trouble  bool          // a Report went out since the last Recovered
	failures int           // since the last acknowledged record
	since    time.Time     // of the first of them
	progress chan struct{} // closed and replaced when the source's Left changed
	noted    map[Condition]note
}

// note is when a condition was logged last, and how often it came since.
type note struct {
	at      time.Time
	repeats int
}

// New makes a Sender. It does nothing before Run.
func New(cfg Config, src Source) (*Sender, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Sender{
		cfg: cfg, src: src, log: cfg.Logger, m: cfg.Metrics,
		resume: make(chan struct{}, 1), ended: make(chan struct{}),
		win: newWindow(cfg.Window), progress: make(chan struct{}), noted: map[Condition]note{},
	}, nil
}

// What ends a session besides network errors.
var (
	errEnding  = errors.New("the server is stopping")
	errSuspend = errors.New("suspended by the configured action")
	errClosed  = errors.New("connection closed by the server")
)

// Run sends until ctx ends (nil), the Handler decides Stop (ErrStopped) or the
// source fails. It is called once. The connection is closed when it returns;
// replies to what is in flight were waited for up to Grace.
func (s *Sender) Run(ctx context.Context) error {
	defer close(s.ended)
	var (
		round   int // of failures, for the back-off
		server  int
		connect bool // a connection was made once
	)
	for ctx.Err() == nil {
		name := s.cfg.Servers[server]
		before, began := s.m.Acked.Load(), time.Now()
		err := s.attempt(ctx, name, &connect)
		if ctx.Err() != nil {
			break
		}
		switch {
		case errors.Is(err, ErrStopped) || isSource(err):
			return err
		case errors.Is(err, errSuspend):
			if !s.suspended(ctx) {
				return nil
			}
		}
		// The servers are tried in order. One that took records, or let us stay,
		// was a good one: then it's the preferred one's turn again.
		if s.m.Acked.Load() != before || time.Since(began) > s.cfg.BackoffMax+s.cfg.ConnectTimeout {
			round = 0
		} else if server++; server < len(s.cfg.Servers) {
			continue
		}
		server = 0
		pause(ctx, s.backoff(round))
		round++
	}
	return nil
}

// sourceError is a failure of the source: Run can't go on.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return "ship: read from source: " + e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

func isSource(err error) bool {
	var se *sourceError
	return errors.As(err, &se)
}

// attempt connects once and sends until that connection ends. It reports what
// happened and returns it, or what was decided instead.
func (s *Sender) attempt(ctx context.Context, server string, connected *bool) error {
	cctx, cancel := context.WithTimeout(ctx, s.cfg.ConnectTimeout)
	conn, err := s.cfg.Dial(cctx, server)
	cancel()
	if err != nil {
		if ctx.Err() != nil {
			return err // Run looks at ctx first
		}
		s.m.ConnectFailures.Add(1)
		condition := NetworkFailure
		if !*connected {
			condition = StartupFailure
		}
		return s.failed(Report{Condition: condition, Server: server, Err: fmt.Errorf("connect: %w", err)})
	}
	s.m.Connects.Add(1)
	if *connected {
		s.m.Reconnects.Add(1)
	}
	*connected = true
	s.m.Connected.Store(1)
	s.report(Report{Condition: Connected, Server: server})
	err = newSession(s, conn, server).run(ctx)
	s.m.Connected.Store(0)
	s.m.InFlight.Store(0)
	if ctx.Err() != nil {
		return err
	}
	s.m.Disconnects.Add(1)
	switch {
	case errors.Is(err, ErrStopped), errors.Is(err, errSuspend), isSource(err):
		return err
	case errors.Is(err, errEnding):
		return s.failed(Report{Condition: RemoteEnding, Server: server, Err: err})
	}
	return s.failed(Report{Condition: NetworkFailure, Server: server, Err: err})
}

// failed counts a failure, reports it and does what is decided.
func (s *Sender) failed(r Report) error {
	s.mu.Lock()
	if s.failures++; s.failures == 1 {
		s.since = time.Now()
	}
	s.mu.Unlock()
	switch s.report(r) {
	case Drop:
		if r.Condition == NetworkFailure {
			s.dropFirst()
		}
	case Suspend:
		return errSuspend
	case Stop:
		return ErrStopped
	}
	return r.Err
}

// report fills in what is known of the failures so far, logs, and asks the Handler.
func (s *Sender) report(r Report) Decision {
	s.mu.Lock()
	r.Attempts, r.Since = s.failures, s.since
	if r.Condition < Connected {
		s.trouble = true
	}
	n, now := s.noted[r.Condition], time.Now()
	say := n.at.IsZero() || now.Sub(n.at) >= time.Minute
	repeats := n.repeats
	if say {
		s.noted[r.Condition] = note{at: now}
	} else {
		s.noted[r.Condition] = note{at: n.at, repeats: repeats + 1}
	}
	s.mu.Unlock()
	if say {
		args := []any{"server", r.Server}
		if r.Err != nil {
			args = append(args, "error", r.Err)
		}
		if r.Reply != 0 {
			args = append(args, "reply", r.Reply.String(), "text", r.Text)
		}
		if repeats > 0 {
			args = append(args, "repeats", repeats)
		}
		if r.Condition >= Connected {
			s.log.Info(r.Condition.String(), args...)
		} else {
			s.log.Warn(r.Condition.String(), args...)
		}
	}
	return s.cfg.Handle(r)
}

// dropFirst gives up the first record that isn't acknowledged.
func (s *Sender) dropFirst() {
	if s.src.Left() == 0 {
		return
	}
	first := s.src.First()
	s.mu.Lock()
	if sl := s.slotOf(first); sl != nil {
		s.win.settle(sl, done)
	}
	s.mu.Unlock()
	s.m.Dropped.Add(1)
	s.ack(first)
	s.release()
}

// release acknowledges what is done at the window's front, and only then lets the
// window move: what may be sent again after a crash is bounded by what the source
// bounds and one window.
func (s *Sender) release() {
	s.mu.Lock()
	index, ok := s.win.front()
	s.mu.Unlock()
	if ok {
		s.ack(index)
	}
}

// ack tells the source, moves the window, and wakes those who wait in Drain.
func (s *Sender) ack(index uint64) {
	if err := s.src.Ack(index); err != nil {
		// The record is stored at the server; at worst it is sent once more.
		s.log.Warn("acknowledge in the source", "index", index, "error", err)
	}
	s.mu.Lock()
	s.win.pop(index)
	close(s.progress)
	s.progress = make(chan struct{})
	s.mu.Unlock()
}

// Resume ends a Suspend.
func (s *Sender) Resume() {
	select {
	case s.resume <- struct{}{}:
	default:
	}
}

func (s *Sender) suspended(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-s.resume:
		return true
	}
}

// Drain waits until every record in the source is acknowledged, and returns how
// many are left when ctx ends before, with its error, or when Run has returned.
// Run must be running.
func (s *Sender) Drain(ctx context.Context) (left uint64, err error) {
	for {
		s.mu.Lock()
		progress := s.progress
		s.mu.Unlock()
		if left = s.src.Left(); left == 0 {
			return 0, nil
		}
		select {
		case <-progress:
		case <-ctx.Done():
			return left, fmt.Errorf("drain: %d records left: %w", left, ctx.Err())
		case <-s.ended:
			if left = s.src.Left(); left == 0 {
				return 0, nil
			}
			return left, fmt.Errorf("drain: %d records left: the sender has ended", left)
		}
	}
}

// backoff is the pause after that many rounds of failures.
func (s *Sender) backoff(round int) time.Duration {
	d := s.cfg.BackoffMin << min(round, 30)
	if d <= 0 || d > s.cfg.BackoffMax {
		d = s.cfg.BackoffMax
	}
	return d/2 + rand.N(d/2+1)
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// isTimeout reports whether err is a deadline's.
func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
