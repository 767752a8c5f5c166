package agent

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/auditfleet/auditfleet/forwarder/internal/boot"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/lines"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/pkg/tables"
	"github.com/auditfleet/auditfleet/pkg/wake"
)

// kernelSource takes records from the kernel: as the host's registered audit daemon, or as
// a listener of the multicast group. They can't wait: what nothing takes is lost, counted.
type kernelSource struct {
	a         *Agent
	cfg       *Config // a's
	multicast bool
	listener  *kernel.Listener // nil before open
	serials   *serialFile      // nil: how far records were taken in is not kept

	invisible int // processes older than auditing, as found at the start

	rulesChanged wake.Signal            // a record says so
	rules        atomic.Pointer[[]byte] // the hash of what the kernel lists; nil: not known

	drained bool // all was acknowledged when the kernel was left
	alone   bool // in a network namespace that gets no multicast records

	// The pump's: what was logged and noted last.
	unreadyWas string
	lossesKept bool   // the note of the boot has
	lostKept   uint32 // this value of the kernel's counter of lost records
}

// statusEvery is how often the kernel's counters are read where statements are not more frequent.
const statusEvery = 10 * time.Second

func newKernelSource(a *Agent) *kernelSource {
	a.pump.enrich = a.cfg.Enrich
	return &kernelSource{rulesChanged: wake.New(), a: a, cfg: &a.cfg, multicast: a.cfg.Source == SourceMulticast}
}

func (k *kernelSource) waits() bool  { return false }
func (k *kernelSource) hungUp() bool { return false }
func (k *kernelSource) ends() bool   { return false }

// turns are the reader's: what comes behind it may wait for a disk, and then it counts what it
// drops. A forwarder that was killed for that would have the host's programs wait instead.
func (k *kernelSource) turns() uint64 { return k.listener.Turns() }

func (k *kernelSource) whenFull() string { return "the newest records are not taken and counted" }

func (k *kernelSource) progress(records uint64) string { return fmt.Sprintf("%d records", records) }

// resume does nothing: the kernel gives no record twice.
func (k *kernelSource) resume() error { return nil }

// open registers with the kernel, or joins the group.
func (k *kernelSource) open() error {
	kc := k.cfg.Kernel
	kc.Multicast = k.multicast
	kc.Logger = k.cfg.Logger.Named("kernel")
	var err error
	if kc.Last, err = k.openSerials(); err != nil {
		return err
	}
	if every := k.cfg.AliveEvery; kc.StatusEvery == 0 && every > 0 && every < statusEvery {
		kc.StatusEvery = every // a statement must not speak for a time after the kernel was asked
	}
	kc.Before = k.lossesBefore()
	if k.listener, err = k.cfg.OpenKernel(kc); err != nil {
		if k.a.daemon != nil {
			k.a.emit(k.a.own.start(k.a.pump.enrich != nil), k.a.own.abort("set-pid"))
		}
		return err
	}
	k.checkBoot()
	k.logUnready()
	return nil
}

// run pumps until the listener has ended and its queue is empty.
func (k *kernelSource) run(ctx, abort context.Context) error {
	a, daemon := k.a, k.a.daemon != nil
	done := make(chan error, 1)
	// The reader first: the start record may have to wait for a disk. It is still
	// the first in the stream, as the queue is read after it.
	reading, leave := context.WithCancel(context.Background())
	defer leave()
	go func() { done <- k.listener.Run(reading) }()
	var watching sync.WaitGroup
	watching.Go(func() { k.watchRules(reading) })
	defer watching.Wait()
	defer leave()
	defer k.leaveLast(ctx, abort, leave)()
	if daemon {
		a.emit(a.own.start(a.pump.enrich != nil))
	}
	k.introduce()
	q := k.listener.Queue()
	pumpLoop(a, q.Ready(), func(struct{}) (over bool) {
		// What was put before Close is there: ask before taking, not after.
		over = q.Closed()
		for b := q.TryTake(); b != nil; b = q.TryTake() {
			k.block(b)
			q.Release(b)
		}
		return over
	}, func() {
		k.announce(false)
		if ctx.Err() == nil { // else we have switched it off ourselves
			k.logUnready()
		}
		k.keepSerials()
		a.sayAlive(false, nil)
	})
	err := <-done
	k.announce(true)
	if errors.Is(err, kernel.ErrOtherDaemon) {
		a.sayAlive(false, nil) // up to here it was us; from here on it is not
	}
	a.sayAlive(true, nil)
	switch {
	case daemon && err != nil:
		a.emit(a.own.abort("read-kernel"))
	case daemon:
		a.recordSignal(tables.DaemonEnd, "terminate")
	}
	return err
}

// introduce makes the run's first statement, behind what it knows to have been lost before it:
// a run that is killed within its first minute was there.
func (k *kernelSource) introduce() {
	if k.a.ship == nil {
		return
	}
	if err := k.lookAtRules(); err != nil { // watchRules looks again, and says it
		k.cfg.Logger.Debug("the kernel's rules are not known yet", "error", err)
	}
	k.announce(false)
	k.a.sayAlive(false, nil)
}

// block hands on one block of records.
func (k *kernelSource) block(b *kernel.Block) {
	p := &k.a.pump
	p.reset()
	for i := range b.Len() {
		r := b.Record(i)
		if r.Type == tables.ConfigChange {
			k.rulesChanged.Set()
		}
		p.record(r)
	}
	k.serials.add(b)
	p.commitOrCount()
	k.saveSerials()
}

// announce says in the stream what was lost since the last time, and which serials
// never came. What the spool did not take is said once it takes records again, and at
// the end (last): then at least the local log has it.
func (k *kernelSource) announce(last bool) {
	a := k.a
	var records []kernel.Record
	losses, counter := k.listener.TakeLosses()
	for _, l := range losses {
		k.cfg.Logger.Warn("audit records were lost", "cause", l.Cause.String(), "records", l.Count)
		records = append(records, a.own.lost(l.Cause.String(), l.Count, l.First, l.Last))
	}
	gaps := k.listener.TakeSerialGaps()
	if gaps.Count > 0 {
		k.cfg.Logger.Info("some serials of the kernel never came: informative, what was lost is counted by cause", "serials", gaps.Count, "first", gaps.First, "last", gaps.Last)
		records = append(records, a.own.serialGaps(gaps))
	}
	if u := &a.pump.unspooled; u.n > 0 && (last || !a.pump.failing) {
		loss := a.own.lost("spool-error", u.n, u.first, u.last)
		if last {
			records = append(records, loss)
			u.n = 0
		} else {
			a.pump.announceUnspooled(loss)
		}
	}
	if records = append(records, a.shippingLosses()...); len(records) > 0 {
		a.emit(records...)
	}
	k.keepLosses(counter)
	if gaps.Count > 0 {
		k.serials.announced(gaps)
		k.saveSerials()
	}
}

// leaveLast leaves the kernel when ctx has ended, after what is spooled was
// acknowledged or had ShutdownTimeout for that: the kernel is read all the while, as
// nobody else takes its records. The returned func ends and joins it.
func (k *kernelSource) leaveLast(ctx, abort context.Context, leave func()) (join func()) {
	over, end := context.WithCancel(abort)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer leave()
		select {
		case <-ctx.Done():
		case <-over.Done():
			return
		}
		if k.a.ship == nil {
			return
		}
		drain, cancel := context.WithTimeout(over, k.cfg.ShutdownTimeout)
		defer cancel()
		left, err := k.a.ship.sender.Drain(drain)
		k.drained = left == 0 && err == nil
	})
	return func() { end(); wg.Wait() }
}

// lastWait is for what came since leaveLast has drained the spool, and our own last
// records: no time at all when no collector is there.
func (k *kernelSource) lastWait() time.Duration {
	if k.drained || k.a.ship.metrics.Connected.Load() > 0 {
		return min(time.Second, k.cfg.ShutdownTimeout)
	}
	return 0
}

func (k *kernelSource) reload(next Changed) {
	k.a.pump.enrich = next.Enrich
	k.listener.SetFull(next.Full)
}

// signalInfo asks the kernel who sent the last signal.
func (k *kernelSource) signalInfo() kernel.SignalInfo {
	sig, err := k.listener.Control().SignalInfo()
	if err != nil {
		k.cfg.Logger.Warn("who sent the signal is not known", "error", err)
	}
	return sig
}

// openSerials opens the state file of the kernel's serials. Only a file of somebody
// else's that was named ends the start: without it the trail is taken in as well.
func (k *kernelSource) openSerials() (*kernel.LastSerial, error) {
	if k.cfg.StateFile == "" {
		return nil, nil
	}
	var last *kernel.LastSerial
	id, err := boot.ID("")
	if err == nil {
		k.serials, last, err = openSerialFile(k.cfg.StateFile, id)
	}
	if err != nil && (k.cfg.StateUnnamed || !errors.Is(err, lines.ErrStateFile)) {
		k.cfg.Logger.Warn("what the kernel makes until the next start will not be counted", "state", k.cfg.StateFile, "error", err)
		err = nil
	}
	return last, err
}

func (k *kernelSource) saveSerials() {
	if err := k.serials.save(k.cfg.Now()); err != nil {
		k.cfg.Logger.Warn("the next start will count too much as missing: how far the kernel's records were taken in can't be kept", "state", k.cfg.StateFile, "error", err)
	}
}

// keepSerials has the state file keep its name.
func (k *kernelSource) keepSerials() {
	switch fresh, err := k.serials.keepName(); {
	case !fresh:
	case err != nil:
		k.cfg.Logger.Warn("the state file was removed, renamed or replaced by another program and can't be made again: what the kernel makes until the next start will not be counted", "state", k.cfg.StateFile, "error", err)
	default:
		k.cfg.Logger.Warn("the state file had been removed or renamed by another program and is made again", "state", k.cfg.StateFile)
	}
}

func (k *kernelSource) close() error {
	var err error
	if k.listener != nil {
		err = k.listener.Close()
	}
	k.keepSerials()
	err = errors.Join(err, k.serials.close())
	k.serials = nil
	return err
}

func (k *kernelSource) lost() map[string]uint64 { return k.listener.Stats().Lost }

func (k *kernelSource) state(line func(format string, args ...any)) {
	why := k.unready()
	ready := yesNo(why == "")
	if why != "" {
		why = " (" + why + ")"
	}
	s := k.listener.Stats()
	line("audit records can come = %s%s", ready, why)
	line("records waiting for the disk = %d", s.QueueRecords)
	line("event serials never seen (informative, no loss by itself) = %d", s.SerialGaps)
	line("receive buffer used = %d of %d KB", s.SocketUsed>>10, s.SocketLimit>>10)
}

func (k *kernelSource) condition() condition {
	s := k.listener.Stats().Kernel
	c := condition{registered: "no", enabled: strconv.FormatUint(uint64(s.Enabled), 10), lost: s.Lost, backlog: s.Backlog, invisible: k.invisible}
	if found, _, ok := k.listener.Found(); ok {
		c.found = strconv.FormatUint(uint64(found.Enabled), 10)
	}
	if k.listener.Registered() {
		c.registered = "yes"
	}
	if k.serials != nil {
		c.serial = k.serials.last
	}
	if sum := k.rules.Load(); sum != nil {
		c.rules = hex.EncodeToString(*sum)
	}
	return c
}

func (k *kernelSource) register(r *metrics.Registry) { metrics.ReadKernel(r, k.sample) }

func (k *kernelSource) sample() metrics.KernelSample {
	s := k.listener.Stats()
	return metrics.KernelSample{
		Records: s.Records, Bytes: s.Bytes, Overruns: s.Overruns, Registrations: s.Registered, SerialGaps: s.SerialGaps,
		QueueRecords: s.QueueRecords, QueueBytes: s.QueueBytes, QueueCapacity: s.QueueCap,
		Backlog: s.Kernel.Backlog, BacklogLimit: s.Kernel.BacklogLimit, Enabled: s.Kernel.Enabled,
	}
}
