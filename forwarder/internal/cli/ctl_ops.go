package cli

import (
	"fmt"
	"os"
	"strings"

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

// sent prints a request's error, if there is one, and returns the exit code.
func (c *ctl) sent(msg string, err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintf(c.err, "%s (%s)\n", msg, errnoText(err))
	c.hint(c.why(err, nil))
	return rules.ExitCode
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
