package agent

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/forwarder/internal/ship"
	"github.com/auditfleet/auditfleet/forwarder/internal/spool"
	"github.com/auditfleet/auditfleet/pkg/action"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/syslog"
)

// RemoteActions are the actions of audisp-remote.conf(5), one for each trouble that
// shipping may meet. An action that is not set does nothing and keeps the records.
type RemoteActions struct {
	NetworkFailure, StartupFailure, RemoteEnding conf.Action
	DiskLow, DiskFull, DiskError                 conf.Action
	GenericError, GenericWarning                 conf.Action
	QueueError, Overflow                         conf.Action
	// MaxTries is how often a record is tried, and MaxTime how long after the first
	// failure, before the action NetworkFailure is carried out.
	MaxTries int
	MaxTime  time.Duration
}

// repeatAfter is the shortest time between two runs of one action for a condition that
// goes on: a server that is low on space says so with every reply.
const repeatAfter = 10 * time.Second

// policy carries out the actions and decides what becomes of the record. Any goroutine may
// call its methods: the sender's writer and reader do, and the pump.
type policy struct {
	do func(conf.Action, action.Message)
	// pause is repeatAfter, but in tests.
	pause time.Duration

	mu     sync.Mutex // guards the fields below
	set    RemoteActions
	warned map[string]bool      // keys whose action was carried out since a record was last stored
	done   map[string]time.Time // by key: when its action was last carried out
	quiet  map[string]int       // by key: how often it was due and not carried out since
	why    string               // the key that last suspended sending
}

func newPolicy(do func(conf.Action, action.Message), set RemoteActions) *policy {
	return &policy{do: do, pause: repeatAfter, set: set, warned: map[string]bool{}, done: map[string]time.Time{}, quiet: map[string]int{}}
}

// reload takes over other actions.
func (p *policy) reload(set RemoteActions) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set = set
	clear(p.warned)
	clear(p.done)
	clear(p.quiet)
}

// suspendedBy returns the key of the action that last suspended sending.
func (p *policy) suspendedBy() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.why
}

// report is ship.Config's Handle: it carries out the condition's action and decides what
// becomes of the record.
func (p *policy) report(r ship.Report) ship.Decision {
	p.mu.Lock()
	defer p.mu.Unlock()
	set := &p.set
	what := fmt.Sprintf("the server %s answered %v", r.Server, r.Reply)
	if r.Text != "" {
		what += fmt.Sprintf(" (%.200q)", r.Text)
	}
	switch r.Condition {
	case ship.Connected:
		return ship.Retry
	case ship.Recovered:
		clear(p.warned)
		return ship.Retry
	case ship.NetworkFailure:
		if r.Waiting == 0 || r.Attempts < set.MaxTries && time.Since(r.Since) < set.MaxTime {
			return ship.Retry
		}
		return p.act("network_failure_action", set.NetworkFailure, fmt.Sprintf("no record can be delivered to %s after %d tries: %v; %d wait", r.Server, r.Attempts, r.Err, r.Waiting))
	case ship.StartupFailure:
		return keep(p.act("startup_failure_action", set.StartupFailure, fmt.Sprintf("no connection to %s at the start: %v", r.Server, r.Err)))
	case ship.RemoteEnding:
		return keep(p.act("remote_ending_action", set.RemoteEnding, fmt.Sprintf("the server %s is stopping", r.Server)))
	case ship.QueueError:
		return keep(p.act("queue_error_action", set.QueueError, fmt.Sprintf("the spool cannot be read: %v", r.Err)))
	case ship.DiskLow:
		return p.act("disk_low_action", set.DiskLow, what)
	case ship.DiskFull:
		return p.act("disk_full_action", set.DiskFull, what)
	case ship.DiskError:
		return p.act("disk_error_action", set.DiskError, what)
	case ship.GenericWarning:
		return p.act("generic_warning_action", set.GenericWarning, what)
	case ship.GenericError:
		return p.act("generic_error_action", set.GenericError, what)
	}
	return ship.Retry
}

// spool is told that the spool did not take records, or gave some up (err is a
// spool.ErrFull), or had another trouble.
func (p *policy) spool(err error) ship.Decision {
	p.mu.Lock()
	defer p.mu.Unlock()
	if errors.Is(err, spool.ErrFull) {
		return keep(p.act("overflow_action", p.set.Overflow, err.Error()))
	}
	return keep(p.act("queue_error_action", p.set.QueueError, err.Error()))
}

// staysAlive says that a spool which fails for good suspends shipping and does not
// end the program.
func (p *policy) staysAlive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.set.QueueError.Do == conf.DoSuspend
}

// keep is for conditions that never cost the record.
func keep(d ship.Decision) ship.Decision {
	if d == ship.Drop {
		return ship.Retry
	}
	return d
}

// act does an action. Called with mu.
func (p *policy) act(key string, a conf.Action, what string) ship.Decision {
	m := action.Message{Condition: "audisp-remote " + key, Subject: "Audit Remote Logging Alert", Text: "auditfleet forwarder: " + what, Level: syslog.Warning}
	switch a.Do {
	case conf.DoIgnore:
		return ship.Drop
	case conf.DoSyslog, conf.DoExec:
		p.often(key, a, m)
		return ship.Drop
	case conf.DoWarnOnceContinue:
		p.once(key, a, m)
		return ship.Drop
	case conf.DoWarnOnce:
		p.once(key, a, m)
	case conf.DoSuspend, conf.DoStop:
		p.why = key + " = " + a.String()
		m.Level = syslog.Alert
		m.Text += "; nothing more is sent until SIGUSR2 or SIGHUP (" + p.why + ")"
		if key == "queue_error_action" || key == "overflow_action" {
			p.often(key, a, m) // a spool says so with every batch, also while nothing is sent
		} else {
			p.do(a, m)
		}
		return ship.Suspend
	case conf.DoSingle, conf.DoHalt:
		m.Level = syslog.Alert
		p.once(key, a, m)
	}
	return ship.Retry
}

// often does an action, but not for every one of many repeats.
func (p *policy) often(key string, a conf.Action, m action.Message) {
	now := time.Now()
	if last, ok := p.done[key]; ok && now.Sub(last) < p.pause {
		p.quiet[key]++
		return
	}
	if n := p.quiet[key]; n > 0 {
		m.Text += fmt.Sprintf(" (%d times more since the last message)", n)
	}
	p.done[key], p.quiet[key] = now, 0
	p.do(a, m)
}

// once does an action the first time since a record was stored.
func (p *policy) once(key string, a conf.Action, m action.Message) {
	if !p.warned[key] {
		p.warned[key] = true
		p.do(a, m)
	}
}
