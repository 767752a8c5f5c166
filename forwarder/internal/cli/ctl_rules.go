package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/pkg/rules"
	"golang.org/x/sys/unix"
)

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
