package cli

import (
	"errors"
	"fmt"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/pkg/rules"
	"golang.org/x/sys/unix"
)

func isSetting(kind rules.OpKind) bool {
	switch kind {
	case rules.OpSetEnabled, rules.OpSetFailure, rules.OpSetRate, rules.OpSetBacklog, rules.OpSetBacklogWait:
		return true
	}
	return false
}

func (c *ctl) set(conn *kernel.Conn, op *rules.Op) int {
	var s kernel.Status
	var name string
	switch op.Kind {
	case rules.OpSetEnabled:
		s.Mask, s.Enabled, name = kernel.MaskEnabled, op.Value, "enable"
	case rules.OpSetFailure:
		s.Mask, s.Failure, name = kernel.MaskFailure, op.Value, "failure mode"
	case rules.OpSetRate:
		s.Mask, s.RateLimit, name = kernel.MaskRateLimit, op.Value, "rate limit"
	case rules.OpSetBacklog:
		s.Mask, s.BacklogLimit, name = kernel.MaskBacklogLimit, op.Value, "backlog limit"
	case rules.OpSetBacklogWait:
		s.Mask, s.BacklogWaitTime, name = kernel.MaskBacklogWaitTime, op.Value, "backlog wait time"
	default:
		fmt.Fprintf(c.err, "operation %d can't be carried out here\n", op.Kind)
		return rules.ExitCode
	}
	before := kernel.Status{Enabled: 1}
	if s.Mask == kernel.MaskEnabled && s.Enabled > 0 {
		if is, err := conn.Status(); err == nil {
			before = is
		}
	}
	err := conn.Set(s)
	if err == nil && before.Enabled == 0 {
		c.switchedOn()
	}
	if errors.Is(err, unix.EINVAL) && op.Kind == rules.OpSetBacklogWait {
		fmt.Fprintf(c.err, "Error sending %s request (%s)\n", name, errnoText(err))
		c.hint("the kernel takes from 0 up to ten times its default of 60 seconds, counted in its clock ticks")
		return rules.ExitCode
	}
	return c.sent("Error sending "+name+" request", err)
}

// switchedOn leaves a note that auditing was switched on just now. The forwarder reads it
// at its start, and warns of processes that are older; without the note it can't.
func (c *ctl) switchedOn() { _ = c.notes.Enabled(true) }

func (c *ctl) reset(conn *kernel.Conn, mask uint32, name string) int {
	n, err := conn.Reset(mask)
	if err != nil {
		return c.sent("Error sending "+name+" reset request", err)
	}
	fmt.Fprintf(c.err, "%s: %d\n", name, n)
	return 0
}

// status prints what auditctl -s does; features only after -s itself.
func (c *ctl) status(interpret, features bool) int {
	conn, err := c.connect()
	if err != nil {
		return c.sent("Error sending status request", err)
	}
	s, err := conn.Status()
	if err != nil {
		return c.sent("Error sending status request", err)
	}
	enabled, failure := fmt.Sprint(s.Enabled), fmt.Sprint(s.Failure)
	if interpret {
		enabled = pick(s.Enabled, "disable", "enabled", "enabled+immutable")
		failure = pick(s.Failure, "silent", "printk", "panic")
	}
	fmt.Fprintf(c.out, "enabled %s\nfailure %s\npid %d\nrate_limit %d\nbacklog_limit %d\nlost %d\nbacklog %d\n"+
		"backlog_wait_time %d\nbacklog_wait_time_actual %d\n",
		enabled, failure, s.PID, s.RateLimit, s.BacklogLimit, s.Lost, s.Backlog, s.BacklogWaitTime, s.BacklogWaitTimeActual)
	if !features {
		return 0
	}
	f, err := conn.Features()
	if errors.Is(err, unix.EINVAL) {
		return 0 // a kernel without features
	}
	if err != nil {
		return c.sent("Error sending feature request", err)
	}
	if f.Mask&kernel.FeatureLoginUIDImmutable != 0 {
		on, lock := 0, "unlocked"
		if f.Features&kernel.FeatureLoginUIDImmutable != 0 {
			on = 1
		}
		if f.Lock&kernel.FeatureLoginUIDImmutable != 0 {
			lock = "locked"
		}
		fmt.Fprintf(c.out, "loginuid_immutable %d %s\n", on, lock)
	}
	return 0
}

func pick(n uint32, words ...string) string {
	if int64(n) < int64(len(words)) {
		return words[n]
	}
	return "unknown"
}
