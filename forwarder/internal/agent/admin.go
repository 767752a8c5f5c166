package agent

import (
	"context"
	"errors"
	"sync"
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

// Changed is what reading the configuration again may change while the agent
// runs.
type Changed struct {
	Node        string
	Log         locallog.Config
	Actions     action.Config
	Plugins     *dispatch.Config
	Enrich      func(dst []byte, r *record.Record) []byte
	ReportEvery time.Duration
	// PriorityBoost is how much of a priority the process takes.
	PriorityBoost int
	// Ship and Remote are for an agent that ships; Ship nil: as they are.
	Ship   *ship.Config
	Remote RemoteActions
	// Full is what a full queue means.
	Full kernel.Full
}

// isDaemon reports whether this is the host's audit daemon: a plugin or a
// listener adds no records of a daemon to the stream.
func (a *Agent) isDaemon() bool { return a.cfg.Source == SourceKernel }

// Rotate starts a new local log, as the stock daemon does on SIGUSR1.
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

// Resume ends suspensions of the local log, of plugins and of shipping, as on
// SIGUSR2.
func (a *Agent) Resume() {
	// Outside the pump, which may be waiting for room in the spool.
	if a.sender != nil {
		a.sender.Resume()
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

// Reload reads the configuration again and takes it over, as on SIGHUP. When it is
// wrong, nothing changes; of a source of lines, whose local log can't be opened as it
// says, shipping does.
func (a *Agent) Reload(ctx context.Context) {
	if a.cfg.Reload == nil {
		a.cfg.Logger.Warn("there is no configuration to read again")
		return
	}
	// Outside the pump: looking up names may take a while.
	a.reloading.Lock()
	defer a.reloading.Unlock()
	next, err := a.cfg.Reload(ctx)
	// The log first, whose new folder may be a wrong one: nothing else has changed then.
	// The pump of a source that waits may be waiting for what the new shipping brings.
	waits := !a.cfg.fromKernel()
	if err == nil && waits {
		err = a.reloadShipping(next.Ship, next.Remote)
	}
	a.do(func() {
		if err == nil {
			err = a.apply(next)
		}
		if err == nil && !waits {
			err = a.reloadShipping(next.Ship, next.Remote)
		}
		if err != nil {
			a.cfg.Logger.Error("the configuration could not be read again and stays as it was", "error", err)
			a.act.syslog(syslog.Err, "auditfleet forwarder: the configuration could not be read again and stays as it was: "+err.Error())
		} else {
			a.cfg.Logger.Info("the configuration was read again")
		}
		if a.isDaemon() {
			a.emit(a.own.configured(a.signalInfo(), err))
		}
	})
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
	if a.cfg.fromKernel() {
		a.pump.enrich = next.Enrich
	}
	a.report.setEvery(next.ReportEvery)
	a.boost(next.PriorityBoost)
	if a.kernel != nil {
		a.kernel.SetFull(next.Full)
	}
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

// signalInfo asks the kernel who sent the last signal.
func (a *Agent) signalInfo() kernel.SignalInfo {
	sig, err := a.kernel.Control().SignalInfo()
	if err != nil {
		a.cfg.Logger.Warn("who sent the signal is not known", "error", err)
	}
	return sig
}

// recordSignal records what an administrator's signal did.
func (a *Agent) recordSignal(typ uint16, op string) {
	if a.isDaemon() {
		a.emit(a.own.bySignal(typ, op, a.signalInfo()))
	}
}

// recordAbort records a start that failed.
func (a *Agent) recordAbort(op string) {
	if a.isDaemon() {
		a.emit(a.own.start(a.pump.enrich != nil), a.own.abort(op))
	}
}

// tick is called once a second by the pump.
func (a *Agent) tick() {
	if l := a.log.Load(); l != nil {
		l.Tick()
		a.sayNameless(l.Stats().Nameless)
	}
	a.saySpoolMoved()
	a.keepSerials()
	if a.report.due(a.cfg.Now()) {
		a.writeReport()
	}
}

// sayNameless says in the stream what went into a local log that was removed. That was
// handed to the spool, where there is one.
func (a *Agent) sayNameless(n uint64) {
	fresh := n - a.nameless
	a.nameless = n
	if fresh == 0 {
		return
	}
	if a.spool != nil {
		a.pump.shippedOnly.Add(fresh)
	}
	if a.isDaemon() {
		a.emit(a.own.logRemoved(fresh))
	}
}

// saySpoolMoved says in the stream that somebody has removed or replaced the spool.
func (a *Agent) saySpoolMoved() {
	if a.spool == nil {
		return
	}
	n := a.spool.Counts().Moved
	fresh := n > a.spoolMoved
	a.spoolMoved = n
	if fresh && a.isDaemon() {
		a.emit(a.own.spoolRemoved(a.spool.Away() == ""))
	}
}

// actions hands what an action says to its runner, which a reload may replace.
type actions struct {
	mu      sync.Mutex // guards what follows
	runner  *action.Runner
	mailTo  string
	closing sync.WaitGroup
	errs    []error
}

// setActions takes over the configuration of actions, if it has changed.
func (a *Agent) setActions(c action.Config) error {
	s := &a.act
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.runner != nil && s.mailTo == c.MailTo {
		return nil
	}
	c.Log = a.cfg.Logger.Named("action")
	before := s.runner
	s.runner, s.mailTo = action.New(c), c.MailTo
	if before != nil {
		s.closing.Go(func() {
			err := before.Close()
			s.mu.Lock()
			defer s.mu.Unlock()
			s.errs = append(s.errs, err)
		})
	}
	return nil
}

// Do implements locallog.Actor.
func (s *actions) Do(a conf.Action, m action.Message) { s.get().Do(a, m) }

func (s *actions) syslog(p syslog.Priority, text string) {
	if r := s.get(); r != nil {
		r.Syslog(p, text)
	}
}

func (s *actions) get() *action.Runner {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runner
}

func (s *actions) close() error {
	r := s.get()
	var err error
	if r != nil {
		err = r.Close()
	}
	s.closing.Wait()
	return errors.Join(append(s.errs, err)...)
}
