package ship

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/auditfleet/auditfleet/pkg/wake"
	"github.com/hashicorp/go-hclog"
)

// Sender ships a source's records to one server at a time.
//
// Two goroutines share it while a connection is open: the writer (Run) reads the source,
// fills the window and sends; the reader settles replies in the window. Others may
// call Suspend, Resume, Reload and Drain. Why this is safe:
//   - The window, and all fields below mu, are used only with mu held. Nobody holds mu
//     during a call that sends or receives, nor one of the Handler, or of the source but
//     Streams', which never waits: none of these can block the other goroutine, and a
//     Handler may call Suspend.
//   - Both goroutines acknowledge to the source (release), in any order: an Ack covers
//     all records before it, so one that comes late changes nothing.
//   - The window forgets a record only after the source was told (ack). So a crash has at
//     most one window of records sent again, beside what the source itself allows.
//   - cfg changes only between sessions, when no reader runs.
type Sender struct {
	cfg Config // Run's, which changes it between sessions
	src Source
	log hclog.Logger
	m   *Metrics

	nudge wake.Signal   // Resume, Suspend or Reload was called
	ended chan struct{} // closed when Run returns
	tell  wake.Signal   // Tell was called

	promises promises
	sent     atomic.Uint64 // the greatest index that was handed to a connection, or was there at the start

	mu       sync.Mutex // guards the fields below
	win      *window
	session  *session      // the present one, nil between sessions
	paused   bool          // Suspend was called, or the Handler decided so
	next     *Config       // what Reload left for takeConfig, nil: nothing
	trouble  bool          // a Report went out since the last Recovered
	refused  uint64        // the last record that was refused
	failures int           // to deliver the first record, since one was acknowledged
	since    time.Time     // of the first of them
	progress chan struct{} // closed and replaced when the source's Left, or paused, changed
	noted    map[Condition]*note
	ackedBy  []*AckedBy    // in order of acknowledgement, MaxAckedBy at most
	turns    uint64        // entries that ackedBy has had
	counts   []*ackedCount // by server, in the order in which they first acknowledged
	past     uint64        // the greatest index that those of before the start have
}

// note is when a condition was logged last, why it came then by server, and how often it
// came since.
type note struct {
	at      time.Time
	repeats int
	said    map[string]string
}

// New returns a Sender that reads src. It does nothing before Run. An error says what is
// wrong with cfg.
func New(cfg Config, src Source) (*Sender, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Sender{
		cfg: cfg, src: src, log: cfg.Logger, m: cfg.Metrics,
		nudge: wake.New(), tell: wake.New(), ended: make(chan struct{}),
		win: newWindow(cfg.Window), progress: make(chan struct{}), noted: map[Condition]*note{},
	}
	for _, by := range cfg.AckedBy[max(0, len(cfg.AckedBy)-MaxAckedBy):] {
		by.past = by.To
		s.past = max(s.past, by.To)
		s.ackedBy = append(s.ackedBy, &by)
		s.turns++
	}
	return s, nil
}

// What ends a session besides network errors.
var (
	errEnding    = errors.New("the server is stopping")
	errSuspend   = errors.New("suspended")
	errReload    = errors.New("the configuration changes")
	errPreferred = errors.New("a server that comes first is back")
)

// firstPause is the longest pause before the second attempt.
const firstPause = 100 * time.Millisecond

// Run sends until ctx ends, and connects again as often as needed. It is called once. At
// the end it waits up to Grace for the replies to what is in flight; when it returns, the
// connection is closed and every goroutine of the Sender has ended.
func (s *Sender) Run(ctx context.Context) {
	defer close(s.ended)
	s.sent.Store(s.src.Newest())
	var (
		round, server int        // of failures, for the back-off
		connected     bool       // a connection was made once
		back          *preferred // where to go on
	)
	defer func() { back.close() }()
	for ctx.Err() == nil {
		if s.takeConfig() || s.isPaused() {
			back.close()
			back, server, round = nil, 0, 0
		}
		if s.isPaused() {
			s.pause(ctx, time.Hour)
			continue
		}
		before, began := s.m.Acked.Load(), time.Now()
		here := back
		back = nil
		var err error
		if back, err = s.attempt(ctx, server, here, &connected); ctx.Err() != nil {
			break
		}
		switch {
		case back != nil:
			server, round = back.server, 0
			continue
		case errors.Is(err, errSuspend) || errors.Is(err, errReload):
			continue
		}
		// The servers are tried in order. One that took records, or let us stay,
		// was a good one: then it's the preferred one's turn again.
		if s.m.Acked.Load() != before || time.Since(began) > s.cfg.BackoffMax+s.cfg.ConnectTimeout {
			round = 0
		} else if server++; server < len(s.cfg.Servers) {
			continue
		}
		server = 0
		d := s.backoff(round)
		if round == 0 {
			d = min(d, rand.N(firstPause))
		}
		s.pause(ctx, d)
		round++
	}
}

// sourceError is a failure of the source.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return "read from source: " + e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

// attempt connects once to the n-th server, unless here is a connection to it, and sends
// until the connection ends. It reports what happened to the Handler and returns that, or
// what was decided instead. When a server earlier in the list answers again, it returns
// the open connection to it.
func (s *Sender) attempt(ctx context.Context, n int, here *preferred, connected *bool) (*preferred, error) {
	server := s.cfg.Servers[n]
	s.keepAcked()
	var conn Conn
	if here != nil {
		conn = here.conn
		s.m.Failbacks.Add(1)
	} else {
		var err error
		cctx, cancel := context.WithTimeout(ctx, s.cfg.ConnectTimeout)
		conn, err = s.cfg.Transport.Dial(cctx, server, s.sending())
		cancel()
		if err != nil {
			if ctx.Err() != nil {
				return nil, err // Run looks at ctx first
			}
			s.m.ConnectFailures.Add(1)
			condition := NetworkFailure
			if !*connected {
				condition = StartupFailure
			}
			return nil, s.failed(Report{Condition: condition, Server: server, Err: fmt.Errorf("connect: %w", err)})
		}
	}
	s.m.Connects.Add(1)
	if *connected {
		s.m.Reconnects.Add(1)
	}
	if n > 0 {
		s.m.Failovers.Add(1)
	}
	*connected = true
	s.m.Server.Store(int64(n))
	s.m.Connected.Store(1)
	s.report(Report{Condition: Connected, Server: server})
	store, held := s.recall(server, conn)
	c := newSession(s, conn, server)
	c.store, c.heldFirst = store, held
	offers, stop := s.lookout(ctx, n)
	c.offers = offers
	err := c.run(ctx)
	stop()
	s.mu.Lock()
	s.session = nil
	s.mu.Unlock()
	s.m.Connected.Store(0)
	s.m.InFlight.Store(0)
	if errors.Is(err, errPreferred) {
		return c.back, err
	}
	c.back.close()
	if ctx.Err() != nil {
		return nil, err
	}
	var broken *sourceError
	condition := NetworkFailure
	switch {
	case errors.Is(err, errSuspend), errors.Is(err, errReload):
		return nil, err
	case errors.As(err, &broken):
		condition = QueueError
	case errors.Is(err, errEnding):
		condition = RemoteEnding
	}
	s.m.Disconnects.Add(1)
	return nil, s.failed(Report{Condition: condition, Server: server, Err: err})
}

// sending is what a transport may know of this sender.
func (s *Sender) sending() Sending {
	return Sending{Streams: s.src, Hello: s.cfg.Hello, Sent: s.sent.Load}
}

// failed counts a failure, reports it and does what is decided.
func (s *Sender) failed(r Report) error {
	waiting := s.src.Left()
	s.mu.Lock()
	if waiting == 0 {
		s.failures = 0
	} else if s.failures++; s.failures == 1 {
		s.since = time.Now()
	}
	s.mu.Unlock()
	switch s.report(r) {
	case Drop:
		if r.Condition == NetworkFailure {
			s.dropFirst()
		}
	case Suspend:
		s.Suspend()
		return errSuspend
	}
	return r.Err
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
	s.failures = 0 // the next record has tries of its own
	s.mu.Unlock()
	s.m.Dropped.Add(1)
	s.ack(first)
	s.release()
}

// release acknowledges to the source the records that are done at the window's front, and
// only then lets the window move past them: so a crash can have sent again at most what
// the source allows and one window. The caller must not hold mu.
func (s *Sender) release() {
	s.mu.Lock()
	index, ok := s.win.front()
	s.mu.Unlock()
	if ok {
		s.ack(index)
	}
}

// ack acknowledges index to the source, moves the window past it, and wakes Drain. The
// caller must not hold mu.
func (s *Sender) ack(index uint64) {
	if err := s.src.Ack(index); err != nil {
		// The record is stored at the server; at worst it is sent once more.
		s.log.Warn("acknowledge in the source", "index", index, "error", err)
	}
	s.mu.Lock()
	s.win.pop(index)
	s.progressed()
	s.mu.Unlock()
}

// progressed wakes those who wait in Drain. The caller holds mu.
func (s *Sender) progressed() {
	close(s.progress)
	s.progress = make(chan struct{})
}

// backoff is the pause after that many rounds of failures.
func (s *Sender) backoff(round int) time.Duration {
	if s.cfg.BackoffMin == s.cfg.BackoffMax {
		return s.cfg.BackoffMin + rand.N(s.cfg.BackoffMin/10+1)
	}
	d := s.cfg.BackoffMin << min(round, 30)
	if d <= 0 || d > s.cfg.BackoffMax {
		d = s.cfg.BackoffMax
	}
	return d/2 + rand.N(d/2+1)
}

// pause waits, less when something was changed.
func (s *Sender) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-s.nudge:
	case <-t.C:
	}
}

// isTimeout reports whether err is a deadline's.
func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
