package agent

import (
	"bytes"
	"testing"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel/fakekernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/spool"
	"github.com/auditfleet/auditfleet/pkg/rules"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// A collector is told which rules the kernel holds: those of the start, and others once a
// record tells of a change.
func TestRulesAreSaid(t *testing.T) {
	t.Parallel()
	k := fakekernel.New()
	c := newCollector(t)
	s := startAgent(t, fake(k, Config{Node: "web1", Ship: shipTo(c.addr), Spool: spool.Options{Dir: t.TempDir() + "/spool"}}))
	says := func(what string, list ...*rules.Rule) {
		t.Helper()
		want := rules.Digest(list)
		wait(t, what, func() bool { return bytes.Equal(s.hello()().Rules, want[:]) })
	}
	says("no rules")
	cmd, err := rules.ParseArgs([]string{"-w", "/etc/passwd", "-p", "wa", "-k", "id"}, rules.Env{Arch: tables.ArchX86_64})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := cmd.Rule().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	conn := k.Conn(7)
	defer conn.Close()
	if err := conn.AddRule(raw); err != nil {
		t.Fatal(err)
	}
	k.Emit(tables.ConfigChange, "op=add_rule key=\"id\" list=4 res=1")
	says("the rule", cmd.Rule())
	s.stop()
	if err := s.end(t); err != nil {
		t.Fatal(err)
	}
}
