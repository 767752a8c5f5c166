// Package ingest turns connections into stored records: bytes → frames → journal →
// acknowledgements. It holds the promise that what is acknowledged is stored: a
// reply is only made when the journal has said so, and goes out in the order in
// which the records came. The collector's server wires it between listen and
// journal and is the only one to import it.
//
// A session is read by a poller (package poll), which hands over what came of all
// its sessions, has it committed at once and writes the replies. What might block is
// done by the session's own goroutine, which sleeps else: waiting for room, for the
// end. Replies to what is committed elsewhere are made after the journal's callback
// and written by a few goroutines shared by all sessions, never by the journal's own:
// a sender that does not take its replies holds up nobody.
//
// Lock order: session.mu, then ackers.mu, owed.mu and poll's. Nothing blocks under any.
package ingest

import (
	"context"
	"errors"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/poll"
	"github.com/auditfleet/auditfleet/collector/internal/seldom"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/semaphore"
)

var (
	// ErrFull is returned by a Journal's Submit when nothing is accepted because the
	// disk is full, though nothing was tried; the sender is told DISKFULL.
	ErrFull = errors.New("the disk is full")
	// ErrSuspended is returned likewise while storing is suspended; the sender is
	// told DISKERROR, as the stock server does.
	ErrSuspended = errors.New("storing is suspended")
)

// Journal is where records become durable. Submit may block while the journal's
// queue is full; done is called once, in the order of Submit, when the batch is
// stored (nil) or was not (the reason), and is not called when Submit fails. A
// deferred batch gets journal.ErrBusy where Submit would block, and waits for Commit.
// Busy says that heavy batches should wait.
type Journal interface {
	Submit(ctx context.Context, b *journal.Batch, done func(error)) error
	Commit()
	Busy() bool
}

// Conn is a sender's connection, as package listen gives it.
type Conn interface {
	Sock() *poll.Conn
	Shut(cause string)
	Cause() string
	ID() uint64
	Peer() netip.AddrPort
	Received(completed, unfinished bool)
	Busy(bool) // is called under a lock
}

// Defaults of Config.
const (
	DefaultMaxInFlight     = 1 << 20
	DefaultMaxTotal        = 256 << 20
	DefaultMaxReplies      = 128 << 10 // to 8,192 records: two windows of our forwarder
	DefaultMaxRepliesTotal = 64 << 20
	DefaultWriteTimeout    = 30 * time.Second
)

// Config is what an Ingest is made of.
type Config struct {
	Journal Journal
	Log     hclog.Logger
	Metrics *metrics.Ingest
	Now     func() time.Time // nil: time.Now
	// MaxInFlight bounds the bytes of one connection that are received and not
	// stored; reading stops there. 0 means DefaultMaxInFlight.
	MaxInFlight int
	// MaxTotal bounds the same of all connections together, and the buffers they
	// read into: a connection waits for its turn before it reads. 0 means
	// DefaultMaxTotal; it is at least one read's buffer.
	MaxTotal int64
	// MaxReplies bounds the bytes of one connection's replies that it does not take;
	// reading stops there, at most a turn beyond. 0 means DefaultMaxReplies.
	MaxReplies int
	// MaxRepliesTotal bounds the same of all together: the connections that have not
	// taken theirs for longest are closed. 0 means DefaultMaxRepliesTotal.
	MaxRepliesTotal int64
	// WriteTimeout bounds how long a sender may leave its replies untaken, and
	// how long the end of a session waits for them. 0 means DefaultWriteTimeout.
	WriteTimeout time.Duration
	// Low says whether space is low: records are then acknowledged with DISKLOW.
	// nil means never.
	Low func() bool
	// Outcome is told why records were not stored, each time, and nil when the
	// first are again. It must not block; nil for nobody.
	Outcome func(error)
	// Writers is the number of goroutines that write replies. 0 means 2.
	Writers int
	// Pollers is the number of goroutines that read. 0 means one for two CPUs, at
	// most 4.
	Pollers int

	turn func(frames int) // tests': is told of each turn
}

// Ingest is the sessions of a collector.
type Ingest struct {
	cfg     Config
	ackers  ackers
	owed    owed
	bad     *seldom.Limiter // of log lines about what peers send
	refused *seldom.Limiter // of log lines about records that were not stored
	evicted *seldom.Limiter // of log lines about connections closed for others' sake
	// refusing says that the last batch was not stored, so that the first one
	// that is again can be told of.
	refusing atomic.Bool
	ctx      context.Context
	cancel   context.CancelFunc
	scratch  [len(classes)]sync.Pool // of *scratch
	replies  sync.Pool               // of *[]byte; see keepReplies
	total    *semaphore.Weighted
	heavy    chan struct{}  // of 1: who waits for the journal, of the sessions that are not light
	slow     sync.WaitGroup // of goroutines that write to a sender that does not read
	lanes    []*lane

	mu       sync.Mutex
	sessions map[*session]struct{} // guarded by mu
	ending   bool                  // guarded by mu: the collector stops; a new session ends at once
}

// Open starts the goroutines that read and that write replies.
func Open(cfg Config) (*Ingest, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.MaxInFlight == 0 {
		cfg.MaxInFlight = DefaultMaxInFlight
	}
	if cfg.MaxTotal == 0 {
		cfg.MaxTotal = DefaultMaxTotal
	}
	cfg.MaxTotal = max(cfg.MaxTotal, readSize)
	if cfg.MaxReplies == 0 {
		cfg.MaxReplies = DefaultMaxReplies
	}
	if cfg.MaxRepliesTotal == 0 {
		cfg.MaxRepliesTotal = DefaultMaxRepliesTotal
	}
	if cfg.Outcome == nil {
		cfg.Outcome = func(error) {}
	}
	if cfg.WriteTimeout == 0 {
		cfg.WriteTimeout = DefaultWriteTimeout
	}
	if cfg.Writers == 0 {
		cfg.Writers = 2
	}
	in := &Ingest{
		cfg:      cfg,
		bad:      &seldom.Limiter{Now: cfg.Now, Burst: 10, Every: time.Second},
		refused:  &seldom.Limiter{Now: cfg.Now, Burst: 1, Every: 10 * time.Second},
		evicted:  &seldom.Limiter{Now: cfg.Now, Burst: 1, Every: 10 * time.Second},
		sessions: map[*session]struct{}{},
		total:    semaphore.NewWeighted(cfg.MaxTotal),
		heavy:    make(chan struct{}, 1),
	}
	in.ctx, in.cancel = context.WithCancel(context.Background())
	if cfg.Pollers == 0 {
		cfg.Pollers = min(4, (runtime.GOMAXPROCS(0)+1)/2)
	}
	for range cfg.Pollers {
		l, err := newLane(in)
		if err != nil {
			in.cancel()
			return nil, errors.Join(err, in.closeLanes())
		}
		in.lanes = append(in.lanes, l)
	}
	in.ackers.start(cfg.Writers)
	return in, nil
}

func (in *Ingest) closeLanes() error {
	var errs []error
	for _, l := range in.lanes {
		errs = append(errs, l.poller.Close())
	}
	return errors.Join(errs...)
}

// Serve handles one connection until it ends: everything received is stored and
// acknowledged, or the connection is gone. It does not close it.
func (in *Ingest) Serve(c Conn) {
	s, err := newSession(in, c)
	if err != nil {
		c.Shut(metrics.ClosedError)
		return
	}
	in.mu.Lock()
	in.sessions[s] = struct{}{}
	ending := in.ending
	in.mu.Unlock()
	if ending {
		s.end()
	}
	s.run()
	s.poll.Close()
	in.mu.Lock()
	delete(in.sessions, s)
	in.mu.Unlock()
}

// End asks every session to end in good order: it stops reading, acknowledges
// what it has read, tells its sender ENDING and returns from Serve.
func (in *Ingest) End() {
	in.mu.Lock()
	in.ending = true
	all := make([]*session, 0, len(in.sessions))
	for s := range in.sessions {
		all = append(all, s)
	}
	in.mu.Unlock()
	for _, s := range all {
		s.end()
	}
}

// Abort gives up what waits for the journal: each Serve returns as soon as its
// connection is closed, acknowledging nothing more.
func (in *Ingest) Abort() { in.cancel() }

// Close joins the goroutines that read and that write replies. Every Serve has returned.
func (in *Ingest) Close() error {
	in.cancel()
	err := in.closeLanes()
	in.ackers.stop()
	in.slow.Wait()
	return err
}
