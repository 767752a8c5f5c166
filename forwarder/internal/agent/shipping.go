package agent

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/ship"
	"github.com/auditfleet/auditfleet/forwarder/internal/spool"
	"github.com/auditfleet/auditfleet/forwarder/internal/witness"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// shipping is the way of records to a collector: the spool, and the sender behind it.
type shipping struct {
	cfg     *ship.Config // as it was last taken over; Reload's
	spool   *spool.Spool
	reader  *spool.Reader
	sender  *ship.Sender
	metrics ship.Metrics
	acked   *ackedFile
	witness *witness.Keeper // nil: none
	log     hclog.Logger

	ackedFails atomic.Bool // to keep acked, last time
	policy     *policy

	announced shipLosses // so far; the pump's
	moved     uint64     // times the spool was removed or replaced, as last said; the pump's
}

func (a *Agent) openShipping(ctx context.Context) error {
	so := a.cfg.Spool
	so.Logger = a.cfg.Logger.Named("spool")
	if so.Full == spool.DropOldest && a.src.waits() && !a.cfg.DropLines {
		so.Full = spool.RefuseInput
	}
	a.ship = &shipping{cfg: a.cfg.Ship, policy: newPolicy(a.act.Do, a.cfg.Remote), log: so.Logger}
	var keep atomic.Pointer[func()] // once the sender is there
	so.BeforeAcked = func() {
		if f := keep.Load(); f != nil {
			(*f)()
		}
	}
	sp, recovery, err := a.openSpool(ctx, so)
	if err != nil {
		a.ship = nil
		return err
	}
	full := "the oldest records are dropped and counted"
	if so.Full != spool.DropOldest {
		full = a.src.whenFull()
	}
	so.Logger.Info("records wait here until they are acknowledged", "dir", so.Dir, "bytes", so.MaxBytes, "when_full", full)
	a.ship.spool, a.ship.reader = sp, sp.Reader()
	if a.ship.witness = a.cfg.Witness; a.ship.witness != nil {
		a.ship.witness.Load()
	}
	var torn int
	if a.ship.acked, torn, err = openAcked(so.Dir); err != nil {
		so.Logger.Warn("who has acknowledged what is not kept", "error", err)
	}
	if torn > 0 {
		so.Logger.Warn("a part of who has acknowledged what is damaged and is left out", "file", a.ship.acked.path, "entries", torn)
	}
	a.pump.spool, a.pump.gone = sp, a.src.hungUp
	if err := a.src.resume(); err != nil {
		return err
	}
	if left := sp.Left(); left > 0 {
		so.Logger.Info("records of the last run go out first", "records", left, "dir", so.Dir)
	}
	logRecovery(so.Logger, recovery)
	if a.cfg.actionPause > 0 {
		a.ship.policy.pause = a.cfg.actionPause
	}
	sc := *a.cfg.Ship
	sc.Hello = a.hello()
	sc.Logger, sc.Metrics, sc.Handle = a.cfg.Logger.Named("ship"), &a.ship.metrics, a.ship.policy.report
	sc.AckedBy, sc.KeepAcked = a.ship.acked.kept, a.ship.keepAcked
	if a.ship.sender, err = ship.New(sc, a.ship.reader); err != nil {
		return err
	}
	save := a.ship.keepAcked
	keep.Store(&save)
	a.pump.trouble, a.pump.stays = a.ship.trouble, a.ship.policy.staysAlive
	return nil
}

// logRecovery says what the spool found when it was opened.
func logRecovery(log hclog.Logger, r *seglog.Recovery) {
	if t := r.Torn; t != nil {
		log.Info("cut an unfinished write off the spool's end", "file", t.File, "offset", t.Offset, "bytes", t.Bytes)
	}
	for _, u := range r.Unsynced {
		log.Info("records that the spool had not synced when the power went are not in it: neither damage nor a loss that is counted", "file", u.File, "offset", u.Offset, "first", u.First, "last", u.Last)
	}
	for _, d := range r.Damaged {
		log.Error("the spool is damaged", "file", d.File, "offset", d.Offset, "first", d.First, "last", d.Last, "set_aside", d.SetAside, "error", d.Err)
	}
}

// openSpool opens the spool. Where a dispatcher starts us again, the instance before
// may have it still: it is waited for, while records wait in the dispatcher's queue.
// When nobody feeds us any more, or ctx has ended, that is done for a while only: what
// is in the pipe is to be taken in, too.
func (a *Agent) openSpool(ctx context.Context, so spool.Options) (*spool.Spool, *seglog.Recovery, error) {
	var logged, until time.Time
	for {
		sp, rec, err := spool.Open(so)
		now := time.Now()
		if !a.cfg.Plugin || !errors.Is(err, fsys.ErrLocked) || !until.IsZero() && now.After(until) {
			return sp, rec, err
		}
		if now.Sub(logged) >= time.Minute {
			logged = now
			so.Logger.Warn("waiting for the spool: records stay in the dispatcher's queue meanwhile", "error", err)
		}
		if until.IsZero() && (ctx.Err() != nil || a.src.hungUp()) {
			until = now.Add(a.cfg.DrainTimeout)
		}
		time.Sleep(lockPause)
	}
}

// lockPause is how long a plugin waits between looks at a spool that another has.
const lockPause = 50 * time.Millisecond

// trouble does what is configured for a spool that is full or fails.
func (s *shipping) trouble(err error) {
	if s.policy.spool(err) == ship.Suspend {
		s.sender.Suspend()
	}
}

// reload takes over another configuration of shipping and ends a suspension. It does not
// need the pump, which may be waiting for the spool.
func (s *shipping) reload(next *ship.Config, actions RemoteActions) error {
	if s == nil || next == nil {
		return nil
	}
	if !reflect.DeepEqual(next, s.cfg) {
		if err := s.sender.Reload(*next); err != nil {
			return err
		}
		s.cfg = next
	}
	s.policy.reload(actions)
	s.sender.Resume()
	return nil
}

func (s *shipping) close() error {
	s.reader.Close()
	s.keepAcked()
	var err error
	if s.witness != nil {
		err = s.witness.Close()
	}
	return errors.Join(err, s.acked.close(), s.spool.Close())
}

// finish lets the sender ship what is spooled, for a time. ran is what the source's run has returned.
func (a *Agent) finish(ctx, abort context.Context, ran error) error {
	told := ctx.Err() != nil
	limit := a.cfg.DrainTimeout
	switch {
	case a.cfg.Plugin:
		limit = 0 // the next start has the spool at once, and sends it
	case told:
		limit = a.src.lastWait()
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
	left, err := a.ship.sender.Drain(drain)
	if left == 0 {
		return nil
	}
	if (told || a.cfg.Plugin) && a.ship.spool.Away() != "" {
		return nil // the spool says what becomes of them
	}
	// Of a source that ends by itself, exit code 0 says that all of it is acknowledged, also when told to end.
	if told && (ran != nil || !a.src.ends()) || a.cfg.Plugin {
		a.cfg.Logger.Info("records stay in the spool until the next start", "records", left, "dir", a.cfg.Spool.Dir)
		return nil
	}
	if errors.Is(err, ship.ErrSuspended) {
		return fmt.Errorf("%w: %s has suspended shipping: %d records are left in the spool %s and go out with the next start", ErrLeft, a.ship.policy.suspendedBy(), left, a.cfg.Spool.Dir)
	}
	return fmt.Errorf("%w within %v: %d records are left in the spool %s and go out with the next start (%w)", ErrLeft, time.Since(began).Round(100*time.Millisecond), left, a.cfg.Spool.Dir, err)
}

// shipLosses is how many records shipping lost, by cause.
type shipLosses struct{ full, damaged, givenUp, forgotten, syncErrors uint64 }

// shippingLosses makes records of what the spool and the sender lost since the
// last time, and does what is configured for it; and of what was found about collectors' logs.
func (a *Agent) shippingLosses() []kernel.Record {
	s := a.ship
	if s == nil {
		return nil
	}
	c := s.spool.Counts()
	now := shipLosses{full: c.Dropped, damaged: c.Damaged, givenUp: s.metrics.Dropped.Load(), forgotten: s.metrics.Gone.Load(), syncErrors: c.SyncErrors}
	was := s.announced
	s.announced = now
	records := a.witnessed()
	t := a.cfg.Now()
	for _, l := range []struct {
		cause     string
		now, then uint64
	}{{"spool-full", now.full, was.full}, {"spool-damaged", now.damaged, was.damaged}, {"given-up", now.givenUp, was.givenUp}, {"collector-lost", now.forgotten, was.forgotten}} {
		if l.now > l.then {
			a.cfg.Logger.Warn("audit records will not be shipped", "cause", l.cause, "records", l.now-l.then)
			records = append(records, a.own.lost(l.cause, l.now-l.then, t, t))
		}
	}
	if now.full > was.full {
		s.trouble(fmt.Errorf("%w: %d records were dropped", spool.ErrFull, now.full-was.full))
	}
	if now.damaged > was.damaged {
		s.trouble(fmt.Errorf("the spool %s is damaged: %d records are lost", a.cfg.Spool.Dir, now.damaged-was.damaged))
	}
	if now.syncErrors > was.syncErrors {
		s.trouble(fmt.Errorf("the spool %s cannot be synced", a.cfg.Spool.Dir))
	}
	return records
}
