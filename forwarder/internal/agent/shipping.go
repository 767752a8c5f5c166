package agent

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/ship"
	"github.com/auditfleet/auditfleet/forwarder/internal/spool"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

func (a *Agent) openShipping(ctx context.Context) error {
	so := a.cfg.Spool
	so.Logger = a.cfg.Logger.Named("spool")
	if so.Full == spool.DropOldest && !a.cfg.fromKernel() && !a.cfg.DropLines {
		so.Full = spool.RefuseInput
	}
	sp, recovery, err := a.openSpool(ctx, so)
	if err != nil {
		return err
	}
	so.Logger.Info("records wait here until they are acknowledged", "dir", so.Dir, "bytes", so.MaxBytes, "when_full", a.whenFull(so.Full))
	a.pump.gone = a.hungUp
	a.spool, a.pump.spool = sp, sp
	if err := a.resume(); err != nil {
		return err
	}
	if left := sp.Left(); left > 0 {
		so.Logger.Info("records of the last run go out first", "records", left, "dir", so.Dir)
	}
	if t := recovery.Torn; t != nil {
		so.Logger.Info("cut an unfinished write off the spool's end", "file", t.File, "offset", t.Offset, "bytes", t.Bytes)
	}
	for _, u := range recovery.Unsynced {
		so.Logger.Info("records that the spool had not synced when the power went are not in it: neither damage nor a loss that is counted", "file", u.File, "offset", u.Offset, "first", u.First, "last", u.Last)
	}
	for _, d := range recovery.Damaged {
		so.Logger.Error("the spool is damaged", "file", d.File, "offset", d.Offset, "first", d.First, "last", d.Last, "set_aside", d.SetAside, "error", d.Err)
	}
	a.reader = sp.Reader()
	a.policy = newPolicy(a.act.Do, a.cfg.Remote)
	if a.cfg.actionPause > 0 {
		a.policy.pause = a.cfg.actionPause
	}
	sc := *a.cfg.Ship
	sc.Logger, sc.Metrics, sc.Handle = a.cfg.Logger.Named("ship"), &a.shipMetrics, a.policy.report
	a.sender, err = ship.New(sc, a.reader)
	a.pump.trouble, a.pump.stays = a.spoolTrouble, a.policy.staysAlive
	return err
}

// openSpool opens the spool. Where a dispatcher starts us again, the instance before
// may have it still: it is waited for, while records wait in the dispatcher's queue.
// When nobody feeds us any more, or ctx has ended, that is done for a while only: what
// is in the pipe is to be taken in, too.
func (a *Agent) openSpool(ctx context.Context, so spool.Options) (*spool.Spool, *seglog.Recovery, error) {
	var said, until time.Time
	for {
		sp, rec, err := spool.Open(so)
		now := time.Now()
		if !a.cfg.Plugin || !errors.Is(err, fsys.ErrLocked) || !until.IsZero() && now.After(until) {
			return sp, rec, err
		}
		if now.Sub(said) >= time.Minute {
			said = now
			so.Logger.Warn("waiting for the spool: records stay in the dispatcher's queue meanwhile", "error", err)
		}
		if until.IsZero() && (ctx.Err() != nil || a.hungUp()) {
			until = now.Add(a.cfg.DrainTimeout)
		}
		time.Sleep(lockPause)
	}
}

// lockPause is how long a plugin waits between looks at a spool that another has.
const lockPause = 50 * time.Millisecond

// whenFull says what a full spool does.
func (a *Agent) whenFull(p spool.FullPolicy) string {
	switch {
	case p == spool.DropOldest:
		return "the oldest records are dropped and counted"
	case a.cfg.fromKernel():
		return "the newest records are not taken and counted"
	case a.cfg.Plugin:
		return "reading waits: the dispatcher's queue fills, and its overflow_action decides; spool-full = drop-oldest drops the oldest records instead"
	}
	return "reading waits"
}

// spoolTrouble does what is configured for a spool that is full or fails.
func (a *Agent) spoolTrouble(err error) {
	if a.policy.spool(err) == ship.Suspend {
		a.sender.Suspend()
	}
}

// reloadShipping takes over another configuration of shipping and ends a
// suspension. It does not need the pump, which may be waiting for the spool.
func (a *Agent) reloadShipping(next *ship.Config, actions RemoteActions) error {
	if a.sender == nil || next == nil {
		return nil
	}
	if !reflect.DeepEqual(next, a.cfg.Ship) {
		sc := *next
		if err := a.sender.Reload(sc); err != nil {
			return err
		}
		a.cfg.Ship = next
	}
	a.policy.take(actions)
	a.sender.Resume()
	return nil
}

// finish lets the sender ship what is spooled, for a time.
func (a *Agent) finish(ctx, abort context.Context) error {
	told := ctx.Err() != nil
	limit := a.cfg.DrainTimeout
	switch {
	case a.cfg.Plugin:
		limit = 0 // the next start has the spool at once, and sends it
	case told && a.kernel != nil:
		limit = a.lastMoment()
	case told:
		limit = a.cfg.ShutdownTimeout
	}
	began := time.Now()
	drain, cancel := context.WithTimeout(abort, limit)
	defer cancel()
	if !told {
		// Being told to end while draining makes it a shutdown.
		stop := context.AfterFunc(ctx, func() {
			select {
			case <-time.After(a.cfg.ShutdownTimeout):
			case <-drain.Done():
			}
			cancel()
		})
		defer stop()
	}
	left, err := a.sender.Drain(drain)
	if left == 0 {
		return nil
	}
	if (told || a.cfg.Plugin) && a.spool.Away() != "" {
		return nil // the spool says what becomes of them
	}
	if told || a.cfg.Plugin {
		a.cfg.Logger.Info("records stay in the spool until the next start", "records", left, "dir", a.cfg.Spool.Dir)
		return nil
	}
	if errors.Is(err, ship.ErrSuspended) {
		return fmt.Errorf("%w: %s has suspended shipping: %d records are left in the spool %s and go out with the next start", ErrLeft, a.policy.suspendedBy(), left, a.cfg.Spool.Dir)
	}
	return fmt.Errorf("%w within %v: %d records are left in the spool %s and go out with the next start (%w)", ErrLeft, time.Since(began).Round(100*time.Millisecond), left, a.cfg.Spool.Dir, err)
}

// leaveLast leaves the kernel when ctx has ended, after what is spooled was
// acknowledged or had ShutdownTimeout for that: the kernel is read all the while, as
// nobody else takes its records. The returned func ends and joins it.
func (a *Agent) leaveLast(ctx, abort context.Context, leave func()) (join func()) {
	over, end := context.WithCancel(abort)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer leave()
		select {
		case <-ctx.Done():
		case <-over.Done():
			return
		}
		if a.sender == nil {
			return
		}
		drain, cancel := context.WithTimeout(over, a.cfg.ShutdownTimeout)
		defer cancel()
		left, err := a.sender.Drain(drain)
		a.drained = left == 0 && err == nil
	})
	return func() { end(); wg.Wait() }
}

// lastMoment is how long what came since then, and our own last records, have to go
// out: no time at all when no collector is there.
func (a *Agent) lastMoment() time.Duration {
	if a.drained || a.shipMetrics.Connected.Load() > 0 {
		return min(time.Second, a.cfg.ShutdownTimeout)
	}
	return 0
}

// announce says in the stream what was lost since the last time, and which serials
// never came. What the spool did not take is said once it takes records again, and at
// the end: then at least the local log has it.
func (a *Agent) announce(last bool) {
	var records []kernel.Record
	losses, counter := a.kernel.TakeLosses()
	for _, l := range losses {
		a.cfg.Logger.Warn("audit records were lost", "cause", l.Cause.String(), "records", l.Count)
		records = append(records, a.own.lost(l.Cause.String(), l.Count, l.First, l.Last))
	}
	gaps := a.kernel.TakeSerialGaps()
	if gaps.Count > 0 {
		a.cfg.Logger.Info("some serials of the kernel never came: informative, what was lost is counted by cause", "serials", gaps.Count, "first", gaps.First, "last", gaps.Last)
		records = append(records, a.own.serialGaps(gaps))
	}
	if u := &a.pump.unspooled; u.n > 0 && (last || !a.pump.failing) {
		said := a.own.lost("spool-error", u.n, u.first, u.last)
		if last {
			records = append(records, said)
			u.n = 0
		} else {
			a.sayUnspooled(said)
		}
	}
	if records = append(records, a.shippingLosses()...); len(records) > 0 {
		a.emit(records...)
	}
	a.lossesSaid(counter)
	if gaps.Count > 0 {
		a.serials.said(gaps)
		a.saveSerials()
	}
}

// sayUnspooled says what the spool did not take, if the spool takes that: one that is
// nearly full may not, and then it is said later, once and for all.
func (a *Agent) sayUnspooled(said kernel.Record) {
	a.pump.reset()
	a.pump.record(said)
	if a.pump.commitIfSpooled() {
		a.pump.unspooled.n = 0
	}
}

// announceShipping is announce for a source of lines, which loses nothing on the
// way in.
func (a *Agent) announceShipping(ctx context.Context) {
	records := a.shippingLosses()
	if len(records) == 0 {
		return
	}
	a.pump.reset()
	for _, r := range records {
		a.pump.record(r)
	}
	if err := a.pump.commitOrWait(ctx); err != nil {
		a.cfg.Logger.Error("what was lost could not be said in the stream", "error", err)
	}
}

// shipLosses is how many records shipping lost, by cause.
type shipLosses struct{ full, damaged, givenUp, syncErrors uint64 }

// shippingLosses makes records of what the spool and the sender lost since the
// last time, and does what is configured for it.
func (a *Agent) shippingLosses() []kernel.Record {
	if a.spool == nil {
		return nil
	}
	c := a.spool.Counts()
	now := shipLosses{full: c.Dropped, damaged: c.Damaged, givenUp: a.shipMetrics.Dropped.Load(), syncErrors: c.SyncErrors}
	was := a.announced
	a.announced = now
	var records []kernel.Record
	t := a.cfg.Now()
	for _, l := range []struct {
		cause     string
		now, then uint64
	}{{"spool-full", now.full, was.full}, {"spool-damaged", now.damaged, was.damaged}, {"given-up", now.givenUp, was.givenUp}} {
		if l.now > l.then {
			a.cfg.Logger.Warn("audit records will not be shipped", "cause", l.cause, "records", l.now-l.then)
			records = append(records, a.own.lost(l.cause, l.now-l.then, t, t))
		}
	}
	if now.full > was.full {
		a.spoolTrouble(fmt.Errorf("%w: %d records were dropped", spool.ErrFull, now.full-was.full))
	}
	if now.damaged > was.damaged {
		a.spoolTrouble(fmt.Errorf("the spool %s is damaged: %d records are lost", a.cfg.Spool.Dir, now.damaged-was.damaged))
	}
	if now.syncErrors > was.syncErrors {
		a.spoolTrouble(fmt.Errorf("the spool %s cannot be synced", a.cfg.Spool.Dir))
	}
	return records
}
