package intake

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/semaphore"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/seldom"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/pkg/wake"
)

// Journal is where records become durable: a *journal.Journal, which says what must
// hold of these.
type Journal interface {
	Submit(ctx context.Context, b *journal.Batch, done func(error)) error
	Commit(thin bool)
	Busy() bool
}

// Space watches the disk: a *space.Watcher. None of these blocks.
type Space interface {
	// Admit says whether n bytes of records may be accepted now: nil, space.ErrFull or
	// space.ErrSuspended.
	Admit(n int64) error
	// IsLow says that records are to be acknowledged with a warning.
	IsLow() bool
	// Outcome is told why records could not be stored, and nil when they could again.
	Outcome(err error)
}

// Config is what an Intake is made of. All of it is needed but what has a default.
type Config struct {
	Journal Journal
	Space   Space
	Metrics *metrics.Intake
	Log     hclog.Logger
	Now     func() time.Time // time.Now when nil
	// Refused, when set, hears of records that are not stored, and why: not of those that a
	// collector which stops refuses. It must not block.
	Refused func(s *journal.Sender, records int, v Verdict)
	Names   *Names // nil: no address has a name
	// MaxInFlight bounds the bytes of all connections that are received and not stored,
	// and the buffers they read into. DefaultMaxInFlight when 0; MaxPiece at least.
	MaxInFlight int64
}

const (
	// DefaultMaxInFlight is Config's.
	DefaultMaxInFlight = 256 << 20
	// MaxPiece is the most that may be acquired at once.
	MaxPiece = 128 << 10
)

// Intake is safe for use by several goroutines.
type Intake struct {
	cfg    Config
	names  atomic.Pointer[Names]
	conns  atomic.Uint64       // the last connection's number
	budget *semaphore.Weighted // of cfg.MaxInFlight

	// What Settle tells report, the goroutine that may block. refusing says that the
	// latest batch was not stored; failure is why the latest such was not, until report
	// has said it. refusing is set before failure, and both before changed.
	refusing atomic.Bool
	failure  atomic.Pointer[error]
	changed  wake.Signal
	refused  seldom.Limiter // of log lines; report's

	closing chan struct{}
	once    sync.Once
	wg      sync.WaitGroup
}

// Open starts the goroutine that says what became of records.
func Open(cfg Config) *Intake {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.MaxInFlight == 0 {
		cfg.MaxInFlight = DefaultMaxInFlight
	}
	cfg.MaxInFlight = max(cfg.MaxInFlight, MaxPiece)
	in := &Intake{
		cfg:     cfg,
		budget:  semaphore.NewWeighted(cfg.MaxInFlight),
		changed: wake.New(),
		refused: seldom.Limiter{Now: cfg.Now, Burst: 1, Every: 10 * time.Second},
		closing: make(chan struct{}),
	}
	in.names.Store(cfg.Names)
	in.wg.Go(in.report)
	return in
}

// Close says what is still to be said, and joins. Every transport is closed.
func (in *Intake) Close() error {
	in.once.Do(func() { close(in.closing) })
	in.wg.Wait()
	return nil
}

// SetNames has batches from now on named by another hosts file; nil: by none.
func (in *Intake) SetNames(n *Names) { in.names.Store(n) }

// Source is a connection as its batches have it.
type Source struct {
	Conn   uint64 // no other connection of this process has it
	Sender journal.Sender
}

// Connect begins a connection. A sender without Node is called by its address.
func (in *Intake) Connect(s journal.Sender) Source {
	if s.Node == "" && s.Addr.IsValid() {
		s.Node = s.IP().String()
	}
	return Source{Conn: in.conns.Add(1), Sender: s}
}

// Batch is a batch from Submit to Settle.
type Batch struct {
	journal.Batch
	// As it was submitted: the journal takes resends out, and later it is in others'
	// hands.
	records, bytes int
}

// Submit hands a batch to the journal, as journal.Journal.Submit does, unless nothing is
// admitted now: then it fails with space.ErrFull or space.ErrSuspended. The name that
// the administrator's hosts file has for its sender goes before what that calls itself,
// but not before what it has proved.
func (in *Intake) Submit(ctx context.Context, b *Batch, done func(error)) error {
	n := b.Bytes()
	b.records, b.bytes = len(b.Records), int(n)
	if err := in.cfg.Space.Admit(n); err != nil {
		return err
	}
	if names := in.names.Load(); names != nil && b.Sender.Verified == "" {
		if name := names.Of(b.Sender.Addr.Addr()); name != "" {
			b.Sender.Node = name
		}
	}
	return in.cfg.Journal.Submit(ctx, &b.Batch, done)
}

// Commit has the journal commit what was deferred, as journal.Journal.Commit does.
func (in *Intake) Commit(thin bool) { in.cfg.Journal.Commit(thin) }

// Busy says that those who send more than most should wait before they are read.
func (in *Intake) Busy() bool { return in.cfg.Journal.Busy() }

// TryAcquire takes room for n bytes, MaxPiece at most, of what all connections may have
// in flight, if there is some.
func (in *Intake) TryAcquire(n int) bool { return in.budget.TryAcquire(int64(n)) }

// Acquire is TryAcquire that waits for room, or for ctx, whose error it returns.
func (in *Intake) Acquire(ctx context.Context, n int) error {
	in.cfg.Metrics.Waits.Inc()
	return in.budget.Acquire(ctx, int64(n))
}

// Release gives room back that no batch has.
func (in *Intake) Release(n int) { in.budget.Release(int64(n)) }

// Enter says that n bytes of what was acquired are a batch's from now on.
func (in *Intake) Enter(n int) { in.cfg.Metrics.InFlight.Add(float64(n)) }

// Empty counts n messages without any text: they are acknowledged, and nothing is stored.
func (in *Intake) Empty(n int) { in.cfg.Metrics.Empty.Add(float64(n)) }

// Leave gives n bytes back that were batches'.
func (in *Intake) Leave(n int) {
	in.cfg.Metrics.InFlight.Sub(float64(n))
	in.budget.Release(int64(n))
}
