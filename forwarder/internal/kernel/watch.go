package kernel

import (
	"context"
	"errors"
	"time"
)

// watch is the watcher's loop: it reads the kernel's counters at intervals and whenever the
// reader asks (nudge), and registers again when the kernel has dropped the registration.
func (l *Listener) watch(ctx context.Context) {
	tick := time.NewTicker(l.cfg.StatusEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			l.sock.Wake() // a turn, by which it shows that it lives
		case <-l.nudge:
			// A storm of overruns must not become a storm of requests.
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
				return
			}
		}
		if err := l.look(); err != nil {
			if errors.Is(err, ErrOtherDaemon) {
				l.mu.Lock()
				l.fatal = err
				l.isRegistered = false
				l.enabledSet = false // whether the kernel audits is the other daemon's to say now
				l.mu.Unlock()
				l.stop.Store(true)
				l.sock.Wake()
				return
			}
			l.cfg.Logger.Warn("the kernel's audit status can't be read", "error", err)
		}
	}
}

// look reads the kernel's status once, books what was lost since the last look, and checks
// who is registered. Only the watcher calls it.
func (l *Listener) look() error {
	paused := l.paused.Load()
	l.gaps.look(l.cfg.Now(), l.cfg.StatusEvery/2, paused != l.held)
	l.held = paused
	if l.blind {
		l.account(Status{})
		return nil
	}
	s, err := l.ctl.Status()
	if err != nil {
		return err
	}
	l.account(s)
	if l.cfg.Multicast || s.PID == uint32(l.cfg.PID) {
		return nil
	}
	if s.PID != 0 {
		return l.otherDaemon()
	}
	l.mu.Lock()
	registered := l.isRegistered
	l.mu.Unlock()
	if !registered {
		return nil // handed back just now
	}
	// The kernel drops a daemon whose buffer stays full for half a second.
	if l.holding.Load() {
		// It could deliver nothing to us, its answer neither.
		if !l.outside {
			l.outside = true
			l.cfg.Logger.Warn("the kernel has dropped our registration, because nothing is read while the queue is full: we register again once there is room; until then its backlog and failure mode decide what becomes of records", "failure", s.Failure, "backlog_limit", s.BacklogLimit)
		}
		return nil
	}
	l.outside = false
	l.cfg.Logger.Warn("the kernel had dropped our registration, registering again")
	return l.register()
}

// account books what the kernel lost since the last look.
func (l *Listener) account(s Status) {
	used, limit, drops, err := l.sock.Memory()
	if err != nil {
		l.cfg.Logger.Warn("the socket's memory use can't be read", "error", err)
	}
	now := l.cfg.Now()
	l.mu.Lock()
	lost := lostDelta(l.status.Lost, s.Lost)
	l.status = s
	overrun := drops - l.drops
	if err == nil {
		l.drops, l.used, l.limit = drops, used, limit
	} else {
		overrun = 0
	}
	if !l.cfg.Multicast && !l.blind {
		l.setHold()
	}
	// With the counter, so that TakeLosses returns what belongs together.
	l.book.add(CauseKernel, uint64(lost), now)
	l.mu.Unlock()
	if l.cfg.Multicast {
		l.book.add(CauseOverrun, uint64(overrun), now)
	}
}

// lostDelta returns by how much the kernel's lost counter grew from was to is. An
// administrator may reset it to zero; then all that it shows is new.
func lostDelta(was, is uint32) uint32 {
	if is < was {
		return is
	}
	return is - was
}

// handBack puts back what Open changed: first the enabled flag, so that nothing
// new comes, then, once the kernel's backlog is empty, the registration.
func (l *Listener) handBack() {
	l.mu.Lock()
	set, was, registered := l.enabledSet, l.enabledWas, l.isRegistered
	l.enabledSet = false
	l.mu.Unlock()
	if set {
		l.putBackEnabled(was)
	}
	if !registered {
		return
	}
	deadline := time.Now().Add(time.Second)
	for {
		s, err := l.ctl.Status()
		if err != nil {
			l.cfg.Logger.Warn("the kernel's audit status can't be read", "error", err)
			break
		}
		l.account(s)
		if s.Backlog == 0 || time.Now().After(deadline) {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err := l.unregister(); err != nil {
		l.cfg.Logger.Error("the registration could not be handed back", "error", err)
	}
}

// putBackEnabled undoes what Open did to the enabled flag. Where an administrator has
// locked the configuration since, that stays so until the machine boots again.
func (l *Listener) putBackEnabled(was uint32) {
	err := l.ctl.Set(Status{Mask: MaskEnabled, Enabled: was})
	if err == nil {
		return
	}
	if s, serr := l.ctl.Status(); serr == nil && s.Enabled == locked {
		l.cfg.Logger.Info("auditing stays on: the configuration is locked until the machine boots again (enabled 2)")
		return
	}
	l.cfg.Logger.Error("the kernel's enabled flag could not be put back", "enabled", was, "error", err)
}

// Stats returns the present counters. Any goroutine may call it.
func (l *Listener) Stats() Stats {
	totals := l.book.totals()
	lost := make(map[string]uint64, len(totals))
	for i, n := range totals {
		lost[Cause(i).String()] = n
	}
	s := Stats{
		Records: l.records.Load(), Bytes: l.bytes.Load(), Batches: l.batches.Load(), Overruns: l.overruns.Load(),
		Registered: l.registered.Load(), Paused: l.paused.Load(), Lost: lost, SerialGaps: l.gaps.count(), QueueCap: l.queue.Cap(),
	}
	s.QueueRecords, s.QueueBytes = l.queue.Len()
	l.mu.Lock()
	s.Kernel, s.SocketUsed, s.SocketLimit = l.status, l.used, l.limit
	l.mu.Unlock()
	return s
}

// Close releases the sockets. It hands the registration back when Run did not.
func (l *Listener) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	l.mu.Unlock()
	l.handBack()
	return l.release()
}

func (l *Listener) release() error {
	var errs []error
	if l.ctl != nil {
		errs = append(errs, l.ctl.Close())
	}
	if l.sock != nil {
		errs = append(errs, l.sock.Close())
	}
	return errors.Join(errs...)
}
