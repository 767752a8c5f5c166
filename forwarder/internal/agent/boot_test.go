package agent

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/forwarder/internal/boot"
	"github.com/auditfleet/auditfleet/forwarder/internal/boot/boottest"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel/fakekernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/locallog"
)

func notesOf(h *boottest.Host) boot.Notes {
	return boot.Notes{Root: h.Root, Path: boot.DefaultNote}
}

// heard is a log that can be read while it is written.
type heard struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *heard) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(b)
}

func (s *heard) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

func (s *heard) logger() hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Output: s, Level: hclog.Info})
}

// TestLossesBeforeTheStart: what the kernel lost before the first registration of a boot
// is in the stream and counted, once, whatever comes after: restarts, a kill, another
// boot.
func TestLossesBeforeTheStart(t *testing.T) {
	t.Parallel()
	h, dir, n := boottest.New(t, "audit=1"), t.TempDir(), 0
	k := fakekernel.New()
	k.SetStatus(func(s *kernel.Status) { s.Lost = 8 })
	run := func(during, after uint32) map[string]int {
		t.Helper()
		n++
		log := fmt.Sprintf("%s/%d.log", dir, n)
		s := startAgent(t, fake(k, Config{Boot: notesOf(h), Log: locallog.Config{Path: log, NumLogs: 2}}))
		if during > 0 {
			k.SetStatus(func(s *kernel.Status) { s.Lost += during })
			wait(t, "the loss is seen", func() bool { return s.losses()["kernel"] == uint64(during) })
		}
		s.stop()
		if err := s.end(t); err != nil {
			t.Fatal(err)
		}
		k.SetStatus(func(s *kernel.Status) { s.Lost += after })
		lines := fileLines(t, log)
		told := saidLost(t, lines)
		for cause, records := range told {
			if counted := s.losses()[cause]; counted != uint64(records) {
				t.Errorf("run %d: %s: %v counted, %d said", n, cause, counted, records)
			}
		}
		if n == 1 {
			first := regexp.MustCompile(`cause=before-start records=8 first=(\d+)\.\d+ last=(\d+)\.`).FindStringSubmatch(strings.Join(lines, "\n"))
			var from, to int64
			if first == nil {
				t.Fatalf("%q", lines)
			}
			fmt.Sscan(first[1]+" "+first[2], &from, &to)
			if to-from < 3598 || to-from > 3602 { // the boot
				t.Errorf("lost from %d to %d", from, to)
			}
		}
		return told
	}
	for i, step := range []struct {
		during, after uint32
		want          map[string]int
		change        func()
	}{
		{0, 0, map[string]int{"before-start": 8}, nil},
		{0, 0, map[string]int{}, nil},
		{5, 3, map[string]int{"kernel": 5}, nil}, // 3 while nobody was registered
		{0, 0, map[string]int{"before-start": 3}, nil},
		{0, 0, map[string]int{}, nil},
		{0, 0, map[string]int{"before-start": 2}, func() { // an administrator reset it
			k.SetStatus(func(s *kernel.Status) { s.Lost = 2 })
		}},
		{0, 0, map[string]int{"before-start": 2}, func() { // another boot, which lost as many
			h.Write("/proc/sys/kernel/random/boot_id", "00000000-5a2b-4b30-a1c1-2a4d1b1fd2f7\n")
		}},
		{0, 0, map[string]int{}, func() { h.Write(boot.DefaultNote, "of somebody else's\n") }},
	} {
		if step.change != nil {
			step.change()
		}
		if diff := cmp.Diff(step.want, run(step.during, step.after)); diff != "" {
			t.Errorf("step %d: %s", i+1, diff)
		}
	}
}

// TestOlderProcessesAreSaid: a start says which processes can't be audited, however
// auditing came to be on, also when it was the unit's ExecStartPre or a trace.
func TestOlderProcessesAreSaid(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, cmdline string
		enabled       uint32
		source        string
		note          string
		want          string // "" : no warning
	}{
		{"switched on by us", "quiet", 0, SourceKernel, "", "processes are invisible.*processes=3 first-and-largest=\"systemd, sshd, nginx\""},
		{"switched on before by ctl -e 1", "quiet", 1, SourceKernel, "switched", "processes are invisible.*processes=2 first-and-largest=\"systemd, sshd\".*auditing-since=\"boot\\+1m40s"},
		{"beside another daemon", "quiet", 1, SourceMulticast, "", "processes may be invisible.*processes-at-most=3"},
		{"on since the boot", "quiet audit=1", 1, SourceKernel, "", ""},
		{"off", "quiet", 0, SourceMulticast, "", "no record comes: auditing is off"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := boottest.New(t, c.cmdline)
			h.Process(500, "nginx", 200, 10)
			h.Process(400, "sshd", 50, 20)
			if c.note != "" {
				h.Write("/proc/uptime", "100.00 1\n")
				if err := notesOf(h).Enabled(true); err != nil {
					t.Fatal(err)
				}
				h.Write("/proc/uptime", "3600.00 1\n")
			}
			k := fakekernel.New()
			k.SetStatus(func(s *kernel.Status) { s.Enabled = c.enabled })
			var log heard
			s := startAgent(t, fake(k, Config{Source: c.source, Boot: notesOf(h), Log: locallog.Config{Path: t.TempDir() + "/log", NumLogs: 2}, Logger: log.logger()}))
			s.stop()
			if err := s.end(t); err != nil {
				t.Fatal(err)
			}
			warned := strings.Contains(log.String(), "invisible") || strings.Contains(log.String(), "no record comes")
			if warned != (c.want != "") || !regexp.MustCompile(c.want).MatchString(log.String()) {
				t.Errorf("want %q:\n%s", c.want, log.String())
			}
			if strings.Contains(log.String(), "invisible") && !strings.Contains(log.String(), "audit=1 audit_backlog_limit=8192") {
				t.Errorf("it does not say what to do:\n%s", log.String())
			}
		})
	}
}

// TestUnheard: a source that no record can come from says so, its health is not ok, and
// is again when records can come.
func TestUnheard(t *testing.T) {
	t.Parallel()
	h := boottest.New(t, "audit=1")
	k := fakekernel.New()
	var log heard
	s := startAgent(t, fake(k, Config{
		Source: SourceMulticast, Boot: notesOf(h), HTTP: "127.0.0.1:0", Logger: log.logger(), Log: locallog.Config{Path: t.TempDir() + "/log", NumLogs: 2},
	}))
	health := func(addr string) (int, string) {
		r, err := http.Get("http://" + addr + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		b, _ := io.ReadAll(r.Body)
		http.DefaultClient.CloseIdleConnections()
		return r.StatusCode, string(b)
	}
	if code, text := health(s.HTTPAddr()); code != http.StatusServiceUnavailable || !strings.Contains(text, "auditing is off") {
		t.Errorf("auditing off: %d %q", code, text)
	}
	k.SetStatus(func(s *kernel.Status) { s.Enabled = 1 })
	wait(t, "auditing to be seen on", func() bool { code, text := health(s.HTTPAddr()); return code == 200 && text == "ok\n" })
	wait(t, "that to be logged", func() bool { return strings.Contains(log.String(), "records can come") })
	s.stop()
	if err := s.end(t); err != nil {
		t.Fatal(err)
	}
	h.Remove("/proc/sys/net/core/netdev_max_backlog") // another network namespace
	var alone heard
	s = startAgent(t, fake(k, Config{
		Source: SourceMulticast, Boot: notesOf(h), HTTP: "127.0.0.1:0", Logger: alone.logger(), Log: locallog.Config{Path: t.TempDir() + "/log", NumLogs: 2},
	}))
	if code, text := health(s.HTTPAddr()); code != http.StatusServiceUnavailable || !strings.Contains(text, "network namespace") || !strings.Contains(alone.String(), text[:40]) {
		t.Errorf("another network namespace: %d %q\n%s", code, text, alone.String())
	}
}
