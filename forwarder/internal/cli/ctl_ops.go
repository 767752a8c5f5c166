package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/pkg/rules"
)

// carryOut does what a command line asks for, operation by operation. Settings
// are followed by one status, as auditctl prints it.
func (c *ctl) carryOut(cmd *rules.Command) int {
	setting := false
	for i := range cmd.Ops {
		op := &cmd.Ops[i]
		if code := c.do(op); code != 0 {
			return code
		}
		setting = setting || isSetting(op.Kind)
	}
	if setting && cmd.Rule() == nil && isSetting(cmd.Ops[len(cmd.Ops)-1].Kind) {
		return c.status(false, false)
	}
	return 0
}

func isSetting(kind rules.OpKind) bool {
	switch kind {
	case rules.OpSetEnabled, rules.OpSetFailure, rules.OpSetRate, rules.OpSetBacklog, rules.OpSetBacklogWait:
		return true
	}
	return false
}

func (c *ctl) do(op *rules.Op) int {
	switch op.Kind {
	case rules.OpHelp:
		fmt.Fprint(c.out, ctlUsage)
		return rules.ExitCode // as auditctl
	case rules.OpVersion:
		fmt.Fprintf(c.out, "auditctl version 3.0.9 (auditfleet %s)\n", c.version)
		return 0
	case rules.OpIgnoreErrors:
		c.keepGoing = true
		return 0
	case rules.OpContinue:
		c.keepGoing, c.failFile = true, true
		return 0
	}
	conn, err := c.connect()
	if err != nil {
		fmt.Fprintln(c.err, "Cannot open netlink audit socket")
		c.hint(c.why(err, nil))
		return 1
	}
	switch op.Kind {
	case rules.OpAdd, rules.OpDelete:
		return c.changeRule(conn, op)
	case rules.OpDeleteAll:
		return c.deleteAll(conn, op.Key)
	case rules.OpList:
		return c.list(conn, op.Key, op.Interpret)
	case rules.OpStatus:
		return c.status(op.Interpret, true)
	case rules.OpMessage:
		return c.sent("Error sending user message request", conn.SendUser(kernel.MsgUser, []byte(userMessage(op.Text))))
	case rules.OpTrim:
		return c.sent("Error sending trim subtrees command", conn.Trim())
	case rules.OpEquivalent:
		return c.sent("Error sending make_equivalent command", conn.MakeEquivalent(rules.EquivalentPayload(op.Mount, op.Subtree)))
	case rules.OpLoginUIDImmutable:
		const bit = kernel.FeatureLoginUIDImmutable
		return c.sent("Error setting feature", conn.SetFeatures(kernel.Features{Mask: bit, Features: bit, Lock: bit}))
	case rules.OpResetLost:
		return c.reset(conn, kernel.MaskLost, "lost")
	case rules.OpResetBacklogWait:
		return c.reset(conn, kernel.MaskBacklogWaitTimeActual, "backlog_wait_time_actual")
	case rules.OpSignal:
		return c.signal(conn, op.Signal)
	}
	return c.set(conn, op)
}

// sent reports a request's outcome.
func (c *ctl) sent(msg string, err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintf(c.err, "%s (%s)\n", msg, errnoText(err))
	c.hint(c.why(err, nil))
	return rules.ExitCode
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

// switchedOn notes for the forwarder's start that auditing was switched on just now: it
// warns of processes that are older. A note that can't be kept costs that alone.
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

// list prints the loaded rules, those with the key when one is given.
func (c *ctl) list(conn *kernel.Conn, key string, interpret bool) int {
	raw, err := conn.Rules()
	if err != nil {
		return c.sent("Error sending rule list data request", err)
	}
	if len(raw) == 0 {
		fmt.Fprintln(c.out, "No rules")
		return 0
	}
	options := rules.TextOptions{Interpret: interpret}
	if interpret {
		options.Argument = argumentWords()
	}
	code := 0
	for i, b := range raw {
		r, err := rules.Unmarshal(b)
		if err != nil {
			fmt.Fprintf(c.err, "rule %d of the kernel: %v\n", i+1, err)
			code = rules.ExitCode
			continue
		}
		if hasKey(r, key) {
			fmt.Fprintln(c.out, r.Text(c.env, options))
		}
	}
	return code
}

// hasKey matches as auditctl: the key may be a part of the rule's.
func hasKey(r *rules.Rule, key string) bool {
	if key == "" {
		return true
	}
	for _, f := range r.Fields {
		if f.ID == rules.FieldKey && strings.Contains(f.Str, key) {
			return true
		}
	}
	return false
}

// deleteAll deletes the rules with the key, all without one, and lists what is
// left of them. The kernel's own bytes go back to it.
func (c *ctl) deleteAll(conn *kernel.Conn, key string) int {
	raw, err := conn.Rules()
	if err != nil {
		return c.sent("Error receiving rules list", err)
	}
	for i, b := range raw {
		r, err := rules.Unmarshal(b)
		if err != nil && key != "" {
			fmt.Fprintf(c.err, "rule %d of the kernel: %v\n", i+1, err)
			return rules.ExitCode
		}
		if key != "" && !hasKey(r, key) {
			continue
		}
		if err := conn.DeleteRule(b); err != nil {
			return c.sent("Error deleting rule", err)
		}
	}
	return c.list(conn, key, false)
}

// changeRule adds or deletes one rule.
func (c *ctl) changeRule(conn *kernel.Conn, op *rules.Op) int {
	s, err := conn.Status()
	if err != nil {
		return c.sent("Error sending status request", err)
	}
	if s.Enabled == 2 {
		return c.locked()
	}
	b, err := op.Rule.Marshal()
	if err != nil {
		fmt.Fprintln(c.err, err)
		return rules.ExitCode
	}
	msg := "Error sending add rule data request"
	if op.Kind == rules.OpAdd {
		err = conn.AddRule(b)
	} else {
		msg = "Error sending delete rule data request"
		err = conn.DeleteRule(b)
	}
	if err == nil {
		return 0
	}
	text := errnoText(err)
	if errors.Is(err, unix.EEXIST) {
		text = "Rule exists"
	}
	fmt.Fprintf(c.err, "%s (%s)\n", msg, text)
	c.hint(c.why(err, op))
	return rules.ExitCode
}

func (c *ctl) locked() int {
	fmt.Fprintln(c.err, "The audit system is in immutable mode, no rule changes allowed")
	c.hint("the rules were locked with -e 2 and stay so until this machine boots again: change the rule files and reboot")
	return ctlLocked
}

// userMessage is the record text of -m.
func userMessage(text string) string {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		exe = "?"
	}
	host, terminal := "?", "?"
	if name, err := os.Readlink("/proc/self/fd/0"); err == nil && (strings.HasPrefix(name, "/dev/tty") || strings.HasPrefix(name, "/dev/pts")) {
		terminal = strings.TrimPrefix(name, "/dev/")
		if h, err := os.Hostname(); err == nil {
			host = h // as auditctl, which names the host with a terminal only
		}
	}
	return fmt.Sprintf("text=%s exe=%q hostname=%s addr=? terminal=%s res=success", text, exe, host, terminal)
}

var ctlSignals = map[string]unix.Signal{
	"TERM": unix.SIGTERM, "HUP": unix.SIGHUP, "USR1": unix.SIGUSR1, "USR2": unix.SIGUSR2, "CONT": unix.SIGCONT,
}

// termWait bounds how long --signal TERM waits for the daemon to end, so that
// the next one does not meet the last.
const termWait = 30 * time.Second

// signal sends a signal to the registered daemon. A pidfd makes sure it reaches
// that process and no later one with its number.
func (c *ctl) signal(conn *kernel.Conn, name string) int {
	s, err := conn.Status()
	if err != nil {
		return c.sent("Error sending status request", err)
	}
	if s.PID == 0 {
		fmt.Fprintln(c.err, "Auditd is not running")
		return 0 // as auditctl 3.0.9
	}
	fd, err := unix.PidfdOpen(int(s.PID), 0)
	if err == nil {
		defer func() { _ = unix.Close(fd) }()
		err = unix.PidfdSendSignal(fd, ctlSignals[name], nil, 0)
	}
	if err != nil {
		fmt.Fprintf(c.err, "Failed sending signal to auditd (%s)\n", errnoText(err))
		return 1
	}
	if name != "TERM" {
		return 0
	}
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for deadline := time.Now().Add(termWait); ; {
		n, err := unix.Poll(poll, int(max(0, time.Until(deadline).Milliseconds())))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil || n > 0:
			return 0
		}
		fmt.Fprintf(c.err, "auditd (pid %d) got the signal but has not ended after %s\n", s.PID, termWait)
		return 1
	}
}
