package agent

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel/fakekernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/locallog"
)

// A local log that somebody removes is noticed: what went into the file without a name
// is counted, in the state report, and in the stream; every record is in the new log or
// in that count.
func TestLocalLogRemoved(t *testing.T) {
	dir := t.TempDir()
	path := dir + "/log/audit.log"
	k := fakekernel.New()
	s := startAgent(t, fake(k, Config{Log: locallog.Config{Path: path}, Report: dir + "/state"}))
	const before, after = 50, 20
	for i := range before {
		k.Emit(1300, fmt.Sprintf("before=%d", i))
	}
	wait(t, "they are written", func() bool { return s.logStats().Records >= before+2 }) // with DAEMON_START and the kernel's own
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	wait(t, "the log is there again", func() bool { _, err := os.Stat(path); return err == nil })
	wait(t, "it is said in the stream", func() bool {
		b, err := os.ReadFile(path)
		return err == nil && strings.Contains(string(b), "type=DAEMON_ERR") && strings.Contains(string(b), "op=log-removed cause=local-log records=")
	})
	for i := range after {
		k.Emit(1300, fmt.Sprintf("after=%d", i))
	}
	wait(t, "they are in the new log", func() bool { return strings.Count(strings.Join(fileLines(t, path), "\n"), "after=") == after })
	n := s.logStats().Nameless
	if n == 0 || float64(n) != s.lost("local-log") {
		t.Errorf("%d records in the removed log, %v lost", n, s.lost("local-log"))
	}
	s.Report()
	var b []byte
	wait(t, "the report is there", func() bool {
		var err error
		b, err = os.ReadFile(dir + "/state")
		return err == nil
	})
	if want := fmt.Sprintf("records in a removed log = %d\n", n); !strings.Contains(string(b), want) || !strings.Contains(string(b), "log removed or renamed by another program, times = 1\n") {
		t.Errorf("report without %q: %s", want, b)
	}
	s.stop()
	if err := s.end(t); err != nil {
		t.Error(err)
	}
}
