package selfaudit

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/pkg/daemonrec"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/metrics"
)

const (
	// queueLength bounds the records that wait for the journal.
	queueLength = 16384
	// closeTime bounds how long the end waits for a journal that stores nothing.
	closeTime = 5 * time.Second
	// asker is who asked for something: the kernel tells only the machine's audit
	// daemon who sent a signal, and the stock daemon writes this where it does not know.
	asker = "auid=-1 pid=-1 subj=?"
)

// Journal is where records are stored: a *journal.Journal.
type Journal interface {
	Submit(ctx context.Context, b *journal.Batch, done func(error)) error
}

// Config is what Records are made of.
type Config struct {
	Journal Journal
	Node    string // the name they are stored under
	Now     func() time.Time
	Log     hclog.Logger
	Metrics *metrics.OwnRecords
	// Refusing says that senders' records are not taken: then nothing is stored of
	// what peers do, either, of which there may be any number.
	Refusing func() bool
}

// Records stores the collector's own. Its methods do not block, and any goroutine may
// call them.
type Records struct {
	cfg    Config
	wg     sync.WaitGroup
	ctx    context.Context // until Close gives up
	cancel context.CancelFunc

	mu       sync.Mutex
	text     *daemonrec.Records // guarded by mu
	closed   bool               // guarded by mu
	started  bool               // guarded by mu: DAEMON_START is stored, so DAEMON_END will be
	queue    chan []byte        // sent to and closed under mu
	dropSaid time.Time          // guarded by mu: when the log was last told of a record that was dropped
	refusals refusals           // guarded by mu
}

// Open starts the goroutine that hands records to the journal, which need not be started.
func Open(cfg Config) *Records {
	r := &Records{cfg: cfg, text: daemonrec.New(cfg.Now), queue: make(chan []byte, queueLength)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.wg.Go(r.run)
	return r
}

// run submits what is queued, all there is at once.
func (r *Records) run() {
	for first := range r.queue {
		b := &journal.Batch{
			Sender:   journal.Sender{Node: r.cfg.Node, Transport: event.TransportOwn},
			Received: r.cfg.Now(), Records: []journal.Record{{Raw: first}},
		}
		for len(b.Records) < queueLength && len(r.queue) > 0 {
			next, ok := <-r.queue
			if !ok {
				break
			}
			b.Records = append(b.Records, journal.Record{Raw: next})
		}
		n := len(b.Records) // the batch is in other hands when it is stored
		if err := r.store(b); err != nil {
			r.cfg.Log.Warn("the collector's own records were not stored", "records", n, "error", err)
		}
	}
}

func (r *Records) store(b *journal.Batch) error {
	stored := make(chan error, 1)
	if err := r.cfg.Journal.Submit(r.ctx, b, func(err error) { stored <- err }); err != nil {
		return err
	}
	select {
	case err := <-stored:
		return err
	case <-r.ctx.Done():
		return r.ctx.Err()
	}
}

// Add queues a record; when nothing is stored for long, it is dropped and said so.
func (r *Records) Add(typ, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.add(typ, format, args...)
}

// add is Add with mu.
func (r *Records) add(typ, format string, args ...any) {
	if r.closed {
		return
	}
	text := r.text.Append(fmt.Appendf(nil, "node=%s type=%s msg=", r.cfg.Node, typ), format, args...)
	select {
	case r.queue <- text:
	default:
		// Every one is counted; the log gets the first of each second.
		r.cfg.Metrics.Dropped.Inc()
		if now := r.cfg.Now(); now.Sub(r.dropSaid) >= time.Second || now.Before(r.dropSaid) {
			r.dropSaid = now
			r.cfg.Log.Warn("the collector's own records are dropped: more than the journal takes now", "record", string(text))
		}
	}
}

// Start is the collector's start.
func (r *Records) Start(version string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.started = true
	r.add("DAEMON_START", "%s", daemonrec.Start(version, "raw", ""))
}

// Reconfigured says that the configuration was read again, and whether it was taken over.
func (r *Records) Reconfigured(failed bool) {
	r.Add("DAEMON_CONFIG", "%s", daemonrec.Reconfigured(-1, -1, "", failed))
}

// Rotated says that another partition was asked for, and whether it was begun.
func (r *Records) Rotated(failed bool) {
	res := "success"
	if failed {
		res = "failed"
	}
	r.Add("DAEMON_ROTATE", "op=rotate-logs "+asker+" res=%s", res)
}

// Resumed says that an administrator had storing resumed.
func (r *Records) Resumed() { r.Add("DAEMON_RESUME", "op=resume-logging "+asker+" res=success") }

// Failed says what is wrong with the disk, or was done because of that.
func (r *Records) Failed(op string) { r.Add("DAEMON_ERR", "op=%s "+asker+" res=failed", op) }

// Close stores the collector's end, if its start was stored, and joins.
func (r *Records) Close() {
	r.mu.Lock()
	if r.started {
		r.add("DAEMON_END", "op=terminate auid=%s uid=%d ses=%s pid=%d res=success",
			daemonrec.ProcessID("self", "loginuid"), os.Getuid(), daemonrec.ProcessID("self", "sessionid"), os.Getpid())
	}
	if !r.closed {
		r.closed = true
		close(r.queue)
	}
	r.mu.Unlock()
	giveUp := time.AfterFunc(closeTime, r.cancel)
	r.wg.Wait()
	giveUp.Stop()
	r.cancel()
}
