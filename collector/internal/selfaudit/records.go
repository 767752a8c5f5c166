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
	// batchBytes is when a batch is large enough: after a journal that hung for long all that waits is
	// more than journal.MaxBatch.
	batchBytes = 1 << 20
	// closeTime bounds how long the end waits for a journal that stores nothing.
	closeTime = 5 * time.Second
	// asker has the fields that say who asked for something, as the stock daemon writes
	// them where it does not know: the kernel tells only the machine's audit daemon who
	// sent a signal.
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
	// Refusing reports whether senders' records are refused now. Then records about peers,
	// of which there may be any number, are not stored either.
	Refusing func() bool
	// Names has the accounts of this machine, for who asks the query service; nil for none.
	Names Names
}

// Records stores the collector's own records. Any goroutine may call its methods, and all
// but Close return at once.
//
// A record gets its serial and its place in the queue under mu, so records are stored in the
// order of their serials. The queue is sent to and closed under mu only, and a send never
// waits, so mu is held for short; nobody sends after it is closed.
type Records struct {
	cfg    Config
	exe    string // this program's, as records have it
	wg     sync.WaitGroup
	ctx    context.Context // ends when Close gives up waiting for the journal
	cancel context.CancelFunc

	mu                    sync.Mutex // guards everything below; queue is received from without it
	text                  *daemonrec.Records
	closed                bool
	started               bool // DAEMON_START was added, so Close adds DAEMON_END
	queue                 chan queued
	dropLogged            time.Time // when a dropped record was last logged
	dropped               uint64
	refusals, connections *quota
	asked                 askedQuota
}

// Open starts the goroutine that submits records to the journal. The journal need not be
// started yet. The caller calls Close.
func Open(cfg Config) *Records {
	r := &Records{cfg: cfg, text: daemonrec.New(cfg.Now), queue: make(chan queued, queueLength), exe: "?"}
	if exe, err := os.Executable(); err == nil {
		r.exe = encodeName(exe)
	}
	r.refusals, r.connections = newQuotas()
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.wg.Go(r.run)
	return r
}

// run submits the queued records, as many as make a batch, until the queue is closed and empty.
func (r *Records) run() {
	for first := range r.queue {
		b := &journal.Batch{
			Sender:   journal.Sender{Node: r.cfg.Node, Transport: event.TransportOwn},
			Received: r.cfg.Now(), Records: []journal.Record{{Raw: first.text}},
		}
		var heard []func(bool)
		hears := func(q queued) {
			if q.stored != nil {
				heard = append(heard, q.stored)
			}
		}
		hears(first)
		for size := len(first.text); size < batchBytes && len(r.queue) > 0; {
			next, ok := <-r.queue
			if !ok {
				break
			}
			hears(next)
			b.Records = append(b.Records, journal.Record{Raw: next.text})
			size += len(next.text)
		}
		n := len(b.Records) // the batch is the journal's once it is submitted
		err := r.store(b)
		if err != nil {
			r.lost(n)
			r.cfg.Log.Warn("the collector's own records were not stored", "records", n, "error", err)
		}
		for _, fn := range heard {
			fn(err == nil)
		}
	}
}

// lost counts records that the journal did not take.
func (r *Records) lost(n int) {
	r.cfg.Metrics.Dropped.Add(float64(n))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dropped += uint64(n)
}

// store submits a batch and waits until it is stored, or Close gives up.
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

// Add queues a record of type typ, with the text that format makes behind its stamp. When
// the queue is full because nothing was stored for long, the record is dropped, counted and
// logged.
func (r *Records) Add(typ, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.add(typ, format, args...)
}

// queued is a record that waits for the journal.
type queued struct {
	text   []byte
	stored func(yes bool) // is told what became of it; nil: nobody is
}

// add does Add's work, and returns the record's serial, 0 where it was dropped; mu is held.
func (r *Records) add(typ, format string, args ...any) (serial uint64) {
	return r.addHeard(nil, typ, format, args...)
}

// addHeard is add for a record of which stored is told, from another goroutine, whether it was stored. It is not
// called for one that was dropped.
func (r *Records) addHeard(stored func(bool), typ, format string, args ...any) (serial uint64) {
	if r.closed {
		return 0
	}
	text := r.text.Append(fmt.Appendf(nil, "node=%s type=%s msg=", r.cfg.Node, typ), format, args...)
	select {
	case r.queue <- queued{text, stored}:
		return r.text.Serial()
	default:
		// Every one is counted; the log gets the first of each second.
		r.cfg.Metrics.Dropped.Inc()
		r.dropped++
		if now := r.cfg.Now(); now.Sub(r.dropLogged) >= time.Second || now.Before(r.dropLogged) {
			r.dropLogged = now
			r.cfg.Log.Warn("the collector's own records are dropped: more than the journal takes now", "record", string(text))
		}
		return 0
	}
}

// Dropped is how many records the journal did not take, since the start.
func (r *Records) Dropped() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dropped
}

// Start stores the collector's start.
func (r *Records) Start(version string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.started = true
	r.add("DAEMON_START", "%s", daemonrec.Start(version, "raw", ""))
}

// Reconfigured stores that the configuration was read again, and whether it failed.
func (r *Records) Reconfigured(failed bool) {
	r.Add("DAEMON_CONFIG", "%s", daemonrec.Reconfigured(-1, -1, "", failed))
}

// Rotated stores that another partition was asked for, and whether that failed.
func (r *Records) Rotated(failed bool) {
	res := "success"
	if failed {
		res = "failed"
	}
	r.Add("DAEMON_ROTATE", "op=rotate-logs "+asker+" res=%s", res)
}

// Resumed stores that an administrator had storing resumed.
func (r *Records) Resumed() { r.Add("DAEMON_RESUME", "op=resume-logging "+asker+" res=success") }

// Failed stores what is wrong with the disk, or what was done because of that.
func (r *Records) Failed(op string) { r.Add("DAEMON_ERR", "op=%s "+asker+" res=failed", op) }

// Close stores the collector's end, when its start was stored, and waits for the goroutine:
// at most closeTime for a journal that stores nothing. It may be called again.
func (r *Records) Close() {
	r.mu.Lock()
	r.sayOmitted(r.refusals)
	r.sayOmitted(r.connections)
	r.sayAsked()
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
