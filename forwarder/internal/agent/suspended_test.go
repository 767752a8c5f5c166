package agent

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel/fakekernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/locallog"
	"github.com/auditfleet/auditfleet/forwarder/internal/spool"
)

// A local log that is suspended takes no records; the collector has all of them, so
// nothing in its stream says that any is lost, and the state report says both.
func TestSuspendedLogIsNoLossAtTheCollector(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := newCollector(t)
	k := fakekernel.New()
	s := startAgent(t, fake(k, Config{
		Ship: shipTo(c.addr), Spool: spool.Options{Dir: dir + "/spool"}, Report: dir + "/report",
		Log: locallog.Config{Path: dir + "/audit.log", MaxSize: 600, NumLogs: 2, Action: locallog.ActionSuspend},
	}))
	const n = 50
	for i := range n {
		k.Emit(1300, fmt.Sprint("n=", i))
		wait(t, "it arrives", func() bool { return len(numbers(t, c.got())) == i+1 })
	}
	inLog := numbers(t, fileLines(t, dir+"/audit.log"))
	gone := s.logStats().Dropped
	if len(inLog) == 0 || len(inLog)+int(gone) != n {
		t.Fatalf("%d of %d in the local log, %d counted as not", len(inLog), n, gone)
	}
	time.Sleep(1200 * time.Millisecond) // a tick of the pump, which says what is lost
	s.Report()
	var report []byte
	wait(t, "the state report", func() bool { report, _ = os.ReadFile(dir + "/report"); return len(report) > 0 })
	for _, want := range []string{"logging suspended = yes\n", fmt.Sprintf("records lost, local-log = %d\n", gone),
		fmt.Sprintf("of these in the spool or at the collector, where none of them is missing = %d\n", gone)} {
		if !strings.Contains(string(report), want) {
			t.Errorf("the state report does not say %q:\n%s", want, report)
		}
	}
	s.stop()
	if err := s.end(t); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(upTo(n), numbers(t, c.got())); diff != "" {
		t.Error(diff)
	}
	if said := saidLost(t, c.got()); len(said) > 0 {
		t.Errorf("said to the collector as lost: %v", said)
	}
}
