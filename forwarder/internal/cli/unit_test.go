package cli

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/pkg/rules"
)

// Where the unit stands in for auditd.service, the host has its rules after it was
// started again, and goes on auditing while the forwarder is.
func TestUnitStandsInForAuditd(t *testing.T) {
	text, err := os.ReadFile("../../../deploy/auditfleet-forwarder.service")
	if err != nil {
		t.Fatal(err)
	}
	const program = "/usr/local/sbin/forwarder"
	commands := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		if key, command, ok := strings.Cut(strings.TrimSpace(line), "="); ok && strings.HasPrefix(key, "Exec") {
			if args := strings.Fields(command); strings.TrimPrefix(args[0], "-") == program {
				commands[key] = args[1:]
			}
		}
	}
	if diff := cmp.Diff([]string{"ctl", "-e", "1"}, commands["ExecStartPre"]); diff != "" {
		t.Errorf("before the start: %s", diff)
	}
	if diff := cmp.Diff([]string{"rules", "load"}, commands["ExecStartPost"]); diff != "" {
		t.Errorf("after the start: %s", diff)
	}
	for _, off := range []string{"audit=0", "audit=off"} { // as in auditd.service
		if !strings.Contains(string(text), "\nConditionKernelCommandLine=!"+off+"\n") {
			t.Errorf("the unit is started with %s on the kernel's command line", off)
		}
	}
	if _, err := rules.ParseArgs(commands["ExecStartPre"][1:], rules.SystemEnv()); err != nil {
		t.Error(err)
	}
	std := Stdio{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}
	if c, rest, err := newRulesCommand(std, "v").Find(commands["ExecStartPost"][1:]); err != nil || c.Name() != "load" || len(rest) > 0 {
		t.Errorf("rules %q: %v", rest, err)
	}
	if err := newRunCommand(std, "v").ParseFlags(commands["ExecStart"]); err != nil || len(commands["ExecStart"]) == 0 {
		t.Errorf("the start: %q, %v", commands["ExecStart"], err)
	}
}
