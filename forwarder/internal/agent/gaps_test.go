package agent

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel/fakekernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/locallog"
	"github.com/auditfleet/auditfleet/forwarder/internal/spool"
)

// Serials that never came are told in the stream and the local log, once, as what
// they are, and nothing counts them as lost.
func TestSerialGapsAreToldAndNoLoss(t *testing.T) {
	dir := t.TempDir()
	k := fakekernel.New()
	c := newCollector(t)
	s := startAgent(t, fake(k, Config{
		Node: "web1", Ship: shipTo(c.addr), Spool: spool.Options{Dir: dir + "/spool"}, Report: dir + "/state",
		Log: locallog.Config{Path: dir + "/audit.log", NumLogs: 2},
	}))
	k.Emit(1300, "one")
	k.Skip(40)
	k.Emit(1300, "two")
	ofGaps := func(l string) bool { return strings.Contains(l, "op=serial-gaps ") }
	wait(t, "the gap is told", func() bool { return slices.ContainsFunc(c.got(), ofGaps) })
	s.Report()
	wait(t, "the state report has it", func() bool {
		b, err := os.ReadFile(dir + "/state")
		return err == nil && strings.Contains(string(b), "event serials never seen (informative, no loss by itself) = 40\n")
	})
	k.Skip(2) // at the end
	s.stop()
	if err := s.end(t); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range c.got() {
		if ofGaps(l) {
			got = append(got, l)
		}
	}
	want := []string{
		"node=web1 type=DAEMON_ERR msg=audit: op=serial-gaps informative=yes serials=40 first-serial=3 last-serial=42 first last auid pid res=success",
		"node=web1 type=DAEMON_ERR msg=audit: op=serial-gaps informative=yes serials=2 first-serial=44 last-serial=45 first last auid pid res=success",
	}
	if diff := cmp.Diff(want, masked(got)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(c.got(), fileLines(t, dir+"/audit.log")); diff != "" {
		t.Errorf("the local log and the collector differ: %s", diff)
	}
	if lost := saidLost(t, c.got()); len(lost) > 0 {
		t.Errorf("said to be lost: %v", lost)
	}
	for _, cause := range kernel.Causes() {
		if n := s.lost(cause.String()); n > 0 {
			t.Errorf("%v counted as lost, %v", n, cause)
		}
	}
}
