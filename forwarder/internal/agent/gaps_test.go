package agent

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/forwarder/internal/boot"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel/fakekernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/lines"
	"github.com/auditfleet/auditfleet/forwarder/internal/locallog"
	"github.com/auditfleet/auditfleet/forwarder/internal/spool"
)

// Serials that never came are told in the stream and the local log, once, as what
// they are, and nothing counts them as lost.
func TestSerialGapsAreToldAndNoLoss(t *testing.T) {
	t.Parallel()
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
		if n := s.losses()[cause.String()]; n > 0 {
			t.Errorf("%v counted as lost, %v", n, cause)
		}
	}
}

// What the kernel makes while no forwarder runs is told by the next one, after a
// stop as after a SIGKILL, which leaves no more than the state file.
func TestSerialsBetweenRunsAreTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k := fakekernel.New()
	run := func(body string) []string {
		t.Helper()
		log := fmt.Sprintf("%s/%s.log", dir, body)
		s := startAgent(t, fake(k, Config{StateFile: dir + "/serial", Log: locallog.Config{Path: log, NumLogs: 2}}))
		k.Emit(1300, body)
		wait(t, body, func() bool {
			return len(fileLines(t, log)) > 0 && strings.Contains(strings.Join(fileLines(t, log), "\n"), body)
		})
		s.stop()
		if err := s.end(t); err != nil {
			t.Fatal(err)
		}
		var told []string
		for _, l := range fileLines(t, log) {
			if strings.Contains(l, "op=serial-gaps ") {
				told = append(told, regexp.MustCompile(`serials=\d+ first-serial=\d+ last-serial=\d+`).FindString(l))
			}
		}
		return told
	}
	if got := run("one"); got != nil {
		t.Errorf("the first run: %q, nothing is known of what was before", got)
	}
	first := k.Emit(1300, "nobody takes this")
	k.Skip(40)
	if got, want := run("two"), fmt.Sprintf("serials=41 first-serial=%d last-serial=%d", first, first+40); len(got) != 1 || got[0] != want {
		t.Errorf("the second run: %q, want %q", got, want)
	}
	if got := run("three"); got != nil {
		t.Errorf("without anything between the runs: %q", got)
	}
	b, err := os.ReadFile(dir + "/serial")
	if err != nil {
		t.Fatal(err)
	}
	id, err := boot.ID("")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"another boot": strings.Replace(string(b), id, strings.Repeat("0", len(id)), 1),
		"half a line":  string(b[:len(b)/2]),
		"zeroes":       strings.Repeat("\x00", len(b)),
		"empty":        "",
	} {
		if err := os.WriteFile(dir+"/serial", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		k.Skip(7)
		if got := run(strings.ReplaceAll(name, " ", "-")); got != nil {
			t.Errorf("%s: %q, it says nothing of this boot", name, got)
		}
		k.Skip(3)
		if got := run("after-" + strings.ReplaceAll(name, " ", "-")); len(got) != 1 || !strings.HasPrefix(got[0], "serials=3 ") {
			t.Errorf("after %s: %q, want 3 serials", name, got)
		}
	}
	const others = "root:x:0:0\n"
	if err := os.WriteFile(dir+"/serial", []byte(others), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), fake(k, Config{StateFile: dir + "/serial", Log: locallog.Config{Path: dir + "/x.log", NumLogs: 2}})); !errors.Is(err, lines.ErrStateFile) {
		t.Errorf("a file of somebody else's: %v, want ErrStateFile", err)
	}
	a, err := Open(t.Context(), fake(k, Config{StateFile: dir + "/serial", StateUnnamed: true, Log: locallog.Config{Path: dir + "/x.log", NumLogs: 2}}))
	if err != nil {
		t.Fatalf("at the place of the default it keeps the kernel from being read: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(dir + "/serial"); err != nil || string(b) != others {
		t.Errorf("it holds %q now, %v", b, err)
	}
}

// A state file that can't be opened or written costs a warning, not the trail.
func TestSerialFileFails(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir + "/missing/serial", "/dev/full"} {
		k := fakekernel.New()
		log := &bytes.Buffer{} // the logger locks it, and is read at the end
		trail := dir + "/" + strings.ReplaceAll(path, "/", "_") + ".log"
		s := startAgent(t, fake(k, Config{StateFile: path, Log: locallog.Config{Path: trail, NumLogs: 2}, Logger: hclog.New(&hclog.LoggerOptions{Output: log})}))
		k.Emit(1300, "one")
		k.Emit(1300, "two")
		wait(t, "both", func() bool { return strings.Contains(strings.Join(fileLines(t, trail), "\n"), "two") })
		s.stop()
		if err := s.end(t); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(log.String(), "state="+path); n != 1 {
			t.Errorf("%s: %d warnings, want 1:\n%s", path, n, log.String())
		}
	}
}
