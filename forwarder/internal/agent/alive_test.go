package agent

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel/fakekernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/locallog"
	"github.com/auditfleet/auditfleet/forwarder/internal/spool"
)

// statementsOf returns the fields of the statements among lines, with "at", the line's place.
func statementsOf(lines []string) []map[string]string {
	var out []map[string]string
	for i, l := range lines {
		if !strings.Contains(l, "type=DAEMON_RESUME ") || !strings.Contains(l, " op=alive ") {
			continue
		}
		fields := map[string]string{"at": strconv.Itoa(i)}
		for _, word := range strings.Fields(l) {
			if name, value, ok := strings.Cut(word, "="); ok {
				fields[name] = value
			}
		}
		out = append(out, fields)
	}
	return out
}

// TestAlive: statements follow one another without a hole in time or number, count what was
// handed on before each, say when auditing was off, and the last stands before the end.
func TestAlive(t *testing.T) {
	t.Parallel()
	dir, k, c := t.TempDir(), fakekernel.New(), newCollector(t)
	s := startAgent(t, fake(k, Config{
		Node: "web1", AliveEvery: time.Second, Ship: shipTo(c.addr), Spool: spool.Options{Dir: dir + "/spool"},
		Log: locallog.Config{Path: dir + "/audit.log", NumLogs: 5},
	}))
	for i := range 100 {
		k.Emit(1300, fmt.Sprint("syscall ", i))
	}
	wait(t, "two statements", func() bool { return len(statementsOf(c.got())) >= 2 })
	k.SetStatus(func(s *kernel.Status) { s.Enabled = 0 })
	wait(t, "one of auditing that is off", func() bool {
		said := statementsOf(c.got())
		return said[len(said)-1]["enabled"] == "0"
	})
	s.stop()
	if err := s.end(t); err != nil {
		t.Fatal(err)
	}
	got := c.got()
	said := statementsOf(got)
	for i, f := range said {
		if f["at"] != f["records"] || f["n"] != strconv.Itoa(i+1) || f["run"] != said[0]["run"] || f["lost"] != "0" || f["source"] != "kernel" || f["registered"] != "yes" {
			t.Errorf("statement %d: %v", i, f)
		}
		if i > 0 && f["first"] != said[i-1]["last"] {
			t.Errorf("statement %d begins at %s, the one before ends at %s", i, f["first"], said[i-1]["last"])
		}
		if res := map[string]string{"0": "failed", "1": "success"}[f["enabled"]]; f["res"] != res {
			t.Errorf("statement %d: enabled=%s res=%s", i, f["enabled"], f["res"])
		}
	}
	if !strings.Contains(got[len(got)-1], "type=DAEMON_END ") || said[len(said)-1]["at"] != strconv.Itoa(len(got)-2) {
		t.Errorf("the run ends with %q", got[len(got)-2:])
	}
	if log := fileLines(t, dir+"/audit.log"); len(statementsOf(log)) != len(said) {
		t.Errorf("%d statements in the local log, %d at the collector", len(statementsOf(log)), len(said))
	}
}

// TestAliveOfALog: a log that is followed gets statements too, and a start goes on behind the
// last line, though a statement came after that.
func TestAliveOfALog(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), newCollector(t)
	path := dir + "/audit.log"
	write := func(from, n int) {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for _, l := range sample(from, n) {
			if _, err := f.WriteString(l + "\n"); err != nil {
				t.Fatal(err)
			}
		}
	}
	for run := range 2 {
		write(10*run, 10)
		before := len(statementsOf(c.got()))
		s := startAgent(t, Config{
			Source: path, Follow: true, StateFile: dir + "/state", Node: "web1", AliveEvery: time.Second, Ship: shipTo(c.addr), Spool: spool.Options{Dir: dir + "/spool"},
		})
		wait(t, "the run's lines, and a statement", func() bool {
			got := c.got()
			said := statementsOf(got)
			return len(got)-len(said) == 10*(run+1) && len(said) > before
		})
		s.stop()
		if err := s.end(t); err != nil {
			t.Fatal(err)
		}
	}
	got := c.got()
	said := statementsOf(got)
	if len(got)-len(said) != 20 {
		t.Errorf("%d lines besides %d statements, want 20: %q", len(got)-len(said), len(said), got)
	}
	if said[0]["source"] != "file" || said[0]["registered"] != "" || said[0]["run"] == said[len(said)-1]["run"] {
		t.Errorf("%v", said)
	}
}
