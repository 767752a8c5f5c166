package remote

import (
	"context"
	"errors"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/intake"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/poll"
	"github.com/auditfleet/auditfleet/collector/internal/seldom"
	"github.com/auditfleet/auditfleet/pkg/metrics"
)

// Conn is a sender's connection, as package listen gives it.
type Conn interface {
	Sock() *poll.Conn
	Shut(cause string)
	Cause() string
	Peer() netip.AddrPort
	Received(completed, unfinished bool)
	Busy(bool) // is called under a lock
}

// Defaults of Config.
const (
	DefaultMaxInFlight     = 1 << 20
	DefaultMaxReplies      = 128 << 10 // to 8,192 records: two windows of our forwarder
	DefaultMaxRepliesTotal = 64 << 20
	DefaultWriteTimeout    = 30 * time.Second
)

// Config is what Sessions are made of.
type Config struct {
	Intake  *intake.Intake
	Log     hclog.Logger
	Metrics *metrics.Remote
	Now     func() time.Time // nil: time.Now
	// MaxInFlight bounds the bytes of one connection that are received and not
	// stored; reading stops there. 0 means DefaultMaxInFlight.
	MaxInFlight int
	// MaxReplies bounds the bytes of one connection's replies that it does not take;
	// reading stops there, at most a turn beyond. 0 means DefaultMaxReplies.
	MaxReplies int
	// MaxRepliesTotal bounds the same of all together: the connections that have not
	// taken theirs for longest are closed. 0 means DefaultMaxRepliesTotal.
	MaxRepliesTotal int64
	// WriteTimeout bounds how long a sender may leave its replies untaken, and
	// how long the end of a session waits for them. 0 means DefaultWriteTimeout.
	WriteTimeout time.Duration
	// Writers is the number of goroutines that write replies. 0 means 2.
	Writers int
	// Pollers is the number of goroutines that read. 0 means one for two CPUs, at
	// most 4.
	Pollers int

	turn func(frames int) // tests': is told of each turn
}

func (c *Config) defaults() {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = DefaultMaxInFlight
	}
	if c.MaxReplies == 0 {
		c.MaxReplies = DefaultMaxReplies
	}
	if c.MaxRepliesTotal == 0 {
		c.MaxRepliesTotal = DefaultMaxRepliesTotal
	}
	if c.WriteTimeout == 0 {
		c.WriteTimeout = DefaultWriteTimeout
	}
	if c.Writers == 0 {
		c.Writers = 2
	}
	if c.Pollers == 0 {
		c.Pollers = min(4, (runtime.GOMAXPROCS(0)+1)/2)
	}
}

// Sessions are the connections that speak the protocol.
type Sessions struct {
	cfg     Config
	in      *intake.Intake
	writers writers
	owed    owed
	bad     *seldom.Limiter // of log lines about what peers send
	evicted *seldom.Limiter // of log lines about connections closed for others' sake
	ctx     context.Context // until Abort
	cancel  context.CancelFunc
	buffers [len(bufferSizes)]sync.Pool // of *buffer
	replies sync.Pool                   // of *[]byte; see keepReplies
	heavy   chan struct{}               // of 1: held by the one session that is not light and waits for the journal
	slow    sync.WaitGroup              // of goroutines that write to a sender that does not read
	lanes   []*lane

	mu       sync.Mutex
	sessions map[*session]struct{} // guarded by mu
	ending   bool                  // guarded by mu: the collector stops; a new session ends at once
}

// Open starts the goroutines that read and that write replies.
func Open(cfg Config) (*Sessions, error) {
	cfg.defaults()
	all := &Sessions{
		cfg:      cfg,
		in:       cfg.Intake,
		bad:      &seldom.Limiter{Now: cfg.Now, Burst: 10, Every: time.Second},
		evicted:  &seldom.Limiter{Now: cfg.Now, Burst: 1, Every: 10 * time.Second},
		sessions: map[*session]struct{}{},
		heavy:    make(chan struct{}, 1),
	}
	all.ctx, all.cancel = context.WithCancel(context.Background())
	for range cfg.Pollers {
		l, err := newLane(all)
		if err != nil {
			all.cancel()
			return nil, errors.Join(err, all.closeLanes())
		}
		all.lanes = append(all.lanes, l)
	}
	all.writers.start(cfg.Writers)
	return all, nil
}

func (all *Sessions) closeLanes() error {
	var errs []error
	for _, l := range all.lanes {
		errs = append(errs, l.poller.Close())
	}
	return errors.Join(errs...)
}

// Serve handles one connection of a sender until it ends: everything received is stored and
// acknowledged, or the connection is gone. It does not close it.
func (all *Sessions) Serve(c Conn, from journal.Sender) {
	s, err := newSession(all, c, from)
	if err != nil {
		c.Shut(metrics.ClosedError)
		return
	}
	all.mu.Lock()
	all.sessions[s] = struct{}{}
	ending := all.ending
	all.mu.Unlock()
	if ending {
		s.end()
	}
	s.run()
	s.poll.Close()
	all.mu.Lock()
	delete(all.sessions, s)
	all.mu.Unlock()
}

// End asks every session to end in good order: it stops reading, acknowledges
// what it has read, tells its sender ENDING and returns from Serve.
func (all *Sessions) End() {
	all.mu.Lock()
	all.ending = true
	open := make([]*session, 0, len(all.sessions))
	for s := range all.sessions {
		open = append(open, s)
	}
	all.mu.Unlock()
	for _, s := range open {
		s.end()
	}
}

// Abort gives up what waits for the journal: each Serve returns as soon as its
// connection is closed, acknowledging nothing more.
func (all *Sessions) Abort() { all.cancel() }

// Close joins the goroutines that read and that write replies. Every Serve has returned.
func (all *Sessions) Close() error {
	all.cancel()
	err := all.closeLanes()
	all.writers.stop()
	all.slow.Wait()
	return err
}
