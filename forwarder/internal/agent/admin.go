package agent

import (
	"context"
	"time"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/locallog"
	"github.com/auditfleet/auditfleet/forwarder/internal/ship"
	"github.com/auditfleet/auditfleet/pkg/action"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/dispatch"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/syslog"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// Changed has the parts of the configuration that a reload may change while the agent runs.
type Changed struct {
	Node        string
	Log         locallog.Config
	Actions     action.Config
	Plugins     *dispatch.Config
	Enrich      func(dst []byte, r *record.Record) []byte
	ReportEvery time.Duration
	// PriorityBoost lowers the process's nice value by that much (priority_boost).
	PriorityBoost int
	// Ship and Remote are for an agent that ships; a nil Ship changes neither.
	Ship   *ship.Config
	Remote RemoteActions
	// Full is the policy for a full kernel queue.
	Full kernel.Full
}

// Rotate starts a new local log, as the stock daemon does on SIGUSR1. Any goroutine may
// call it while Run runs.
func (a *Agent) Rotate() {
	a.do(func() {
		l := a.log.Load()
		if l == nil {
			return
		}
		if err := l.Rotate(); err != nil {
			a.cfg.Logger.Error("the local log could not be rotated", "error", err)
			return
		}
		a.recordSignal(tables.DaemonRotate, "rotate-logs")
	})
}

// Resume ends suspensions of the local log, of plugins and of shipping, as SIGUSR2 asks.
// Any goroutine may call it while Run runs.
func (a *Agent) Resume() {
	// Outside the pump, which may be waiting for room in the spool.
	if a.ship != nil {
		a.ship.sender.Resume()
	}
	a.do(func() {
		if l := a.log.Load(); l != nil {
			if err := l.Resume(); err != nil {
				a.cfg.Logger.Error("the local log could not be resumed", "error", err)
			}
		}
		if a.plugins != nil {
			a.plugins.Resume()
		}
		a.recordSignal(tables.DaemonResume, "resume-logging")
	})
}

// Reload reads the configuration again and applies it, as SIGHUP asks. When it is wrong,
// nothing changes; but with a source of lines whose new local log can't be opened, the
// configuration of shipping still changes. It returns what is wrong, which it has logged.
func (a *Agent) Reload(ctx context.Context) error {
	if a.cfg.Reload == nil {
		a.cfg.Logger.Warn("there is no configuration to read again")
		return nil
	}
	// Outside the pump: looking up names may take a while.
	a.reloading.Lock()
	defer a.reloading.Unlock()
	next, err := a.cfg.Reload(ctx)
	// The log first, whose new folder may be a wrong one: nothing else has changed then.
	// The pump of a source that waits may be waiting for what the new shipping brings.
	waits := a.src.waits()
	if err == nil && waits {
		err = a.ship.reload(next.Ship, next.Remote)
	}
	done := make(chan struct{})
	a.do(func() {
		defer close(done)
		if err == nil {
			err = a.apply(next)
		}
		if err == nil && !waits {
			err = a.ship.reload(next.Ship, next.Remote)
		}
		if err != nil {
			a.cfg.Logger.Error("the configuration could not be read again and stays as it was", "error", err)
			a.act.syslog(syslog.Err, "auditfleet forwarder: the configuration could not be read again and stays as it was: "+err.Error())
		} else {
			a.cfg.Logger.Info("the configuration was read again")
		}
		a.reload.Read(err, a.cfg.Now())
		if a.daemon != nil {
			a.emit(a.own.configured(a.daemon.signalInfo(), err))
		}
	})
	select {
	case <-done:
		return err
	case <-a.over: // the pump has not run it, or just has
		return nil
	}
}

// apply takes over what can fail first.
func (a *Agent) apply(next Changed) error {
	if next.Node != "" {
		if err := checkNode(next.Node); err != nil {
			return err
		}
	}
	if err := a.applyLog(next.Log); err != nil {
		return err
	}
	if err := a.setActions(next.Actions); err != nil {
		return err
	}
	a.pump.prefix = nil
	if next.Node != "" {
		a.pump.prefix = []byte("node=" + next.Node + " ")
	}
	a.report.setEvery(next.ReportEvery)
	a.boost(next.PriorityBoost)
	a.src.reload(next)
	if a.plugins != nil && next.Plugins != nil {
		return a.plugins.Reload(next.Plugins.Settings, next.Plugins.Plugins)
	}
	return nil
}

func (a *Agent) applyLog(next locallog.Config) error {
	l := a.log.Load()
	switch {
	case next.Path == "" && l == nil:
		return nil
	case next.Path == "":
		a.setLog(nil)
		return l.Close()
	case l == nil:
		fresh, err := locallog.Open(a.logConfig(next))
		if err == nil {
			a.setLog(fresh)
		}
		return err
	}
	return l.Reload(a.logConfig(next))
}

func (a *Agent) setLog(l *locallog.Log) {
	a.nameless = 0 // a log that is opened counts from there
	a.log.Store(l)
	a.pump.log = l
}

func (a *Agent) logConfig(c locallog.Config) locallog.Config {
	c.Logger, c.Now, c.Actor = a.cfg.Logger.Named("log"), a.cfg.Now, &a.act
	return c
}

func (a *Agent) logStats() locallog.Stats {
	if l := a.log.Load(); l != nil {
		return l.Stats()
	}
	return locallog.Stats{}
}

func (a *Agent) completePlugins(c *dispatch.Config) {
	c.Logger = a.cfg.Logger.Named("plugins")
	c.Syslog = func(m string) { a.act.syslog(syslog.Warning, "auditfleet forwarder: "+m) }
	c.Escalate = func(do conf.Do, why string) {
		a.act.Do(conf.Action{Do: do}, action.Message{Condition: "overflow_action", Subject: "Audit Plugin Queue Full", Level: syslog.Alert, Text: "audit: " + why})
	}
}

// recordSignal records what an administrator's signal did.
func (a *Agent) recordSignal(typ uint16, op string) {
	if a.daemon != nil {
		a.emit(a.own.bySignal(typ, op, a.daemon.signalInfo()))
	}
}

// tick does what is due once a second. The pump calls it.
func (a *Agent) tick() {
	if l := a.log.Load(); l != nil {
		l.Tick()
		a.announceNameless(l.Stats().Nameless)
	}
	a.announceSpoolMoved()
	if a.report.due(a.cfg.Now()) {
		a.writeReport()
	}
}

// announceNameless appends to the stream a record which says that n records went into a
// local log that another program had removed. With a spool they were shipped all the same.
func (a *Agent) announceNameless(n uint64) {
	fresh := n - a.nameless
	a.nameless = n
	if fresh == 0 {
		return
	}
	if a.ship != nil {
		a.pump.shippedOnly.Add(fresh)
	}
	if a.daemon != nil {
		a.emit(a.own.logRemoved(fresh))
	}
}

// announceSpoolMoved appends to the stream a record which says that another program has
// removed or replaced the spool.
func (a *Agent) announceSpoolMoved() {
	if a.ship == nil {
		return
	}
	n := a.ship.spool.Counts().Moved
	fresh := n > a.ship.moved
	a.ship.moved = n
	if fresh && a.daemon != nil {
		a.emit(a.own.spoolRemoved(a.ship.spool.Away() == ""))
	}
}
