package agent

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel/fakekernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/locallog"
	"github.com/auditfleet/auditfleet/forwarder/internal/spool"
)

// A local log that somebody removes is noticed: what went into the file without a name
// is counted, in the state report, and in the stream; every record is in the new log or
// in that count.
func TestLocalLogRemoved(t *testing.T) {
	t.Parallel()
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
	if n == 0 || n != s.losses()["local-log"] {
		t.Errorf("%d records in the removed log, %v lost", n, s.losses()["local-log"])
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

// A spool that somebody removes is put back, and one whose place is taken is said to be
// away, by /healthz as well: in the stream, and every record arrives.
func TestSpoolRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k, c := fakekernel.New(), newCollector(t)
	s := startAgent(t, fake(k, Config{
		Ship: shipTo(c.addr), Spool: spool.Options{Dir: dir + "/spool", SyncInterval: 10 * time.Millisecond}, Report: dir + "/state",
	}))
	n := 0
	emit := func(more int) {
		for range more {
			k.Emit(1300, fmt.Sprint("n=", n))
			n++
		}
		wait(t, "they are handed on", func() bool { return s.pump.records.Load() >= uint64(n) })
	}
	arrived := func() bool { return len(numbers(t, c.got())) == n }
	emit(20)
	wait(t, "the first arrive", arrived)
	c.hold(true)
	emit(20)
	// At once, for the agent puts files into what is there.
	if err := os.Rename(dir+"/spool", dir+"/gone"); err != nil {
		t.Fatal(err)
	}
	wait(t, "it is removed", func() bool { return os.RemoveAll(dir+"/gone") == nil })
	wait(t, "it is there again", func() bool { return s.ship.spool.Counts().Moved == 1 && s.ship.spool.Away() == "" })
	emit(20)
	c.hold(false)
	wait(t, "all arrive", arrived)
	wait(t, "it is said in the stream", func() bool { return strings.Contains(strings.Join(c.got(), "\n"), " op=spool-removed ") })
	if why := s.whyUnwell(); why != "" {
		t.Errorf("unwell: %s", why)
	}

	if err := os.Rename(dir+"/spool", dir+"/old"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/spool", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wait(t, "it is away", func() bool { return strings.Contains(s.whyUnwell(), dir+"/spool") })
	emit(20)
	wait(t, "all arrive", arrived)
	s.Report()
	wait(t, "the report says so", func() bool {
		b, err := os.ReadFile(dir + "/state")
		return err == nil && strings.Contains(string(b), "spool in its place = no (") && strings.Contains(string(b), "spool removed or replaced by another program, times = 2\n")
	})
	if err := os.Remove(dir + "/spool"); err != nil {
		t.Fatal(err)
	}
	wait(t, "all is well again", func() bool { return s.whyUnwell() == "" })
	s.stop()
	if err := s.end(t); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir + "/spool/state"); err != nil {
		t.Error(err)
	}
}
