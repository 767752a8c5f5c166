package integration

import (
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/need"
)

// steady is ten audited events a second, each with a name of its own.
type steady struct {
	dir  string
	stop chan struct{}
	done chan error
	made []span // the n-th event was made then
}

type span struct{ from, to time.Time }

func startSteady(t *testing.T, k *harness.Kernel, dir string) *steady {
	t.Helper()
	work := binaries(t).Work
	if err := k.Add("always,exit", "-F", "arch=b64", "-S", "openat", "-F", "exit=-ENOENT", "-F", "exe="+work, "-k", harness.KeyPrefix+"steady"); err != nil {
		t.Fatal(err)
	}
	s := &steady{dir: dir, stop: make(chan struct{}), done: make(chan error, 1)}
	go func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-s.stop:
				s.done <- nil
				return
			case <-tick.C:
			}
			from := time.Now()
			r, err := harness.Run(5*time.Minute, work, "burst", "-n", "1", "-dir", fmt.Sprintf("%s/event%d", dir, n))
			if err != nil || r.Code != 0 {
				s.done <- fmt.Errorf("event %d: %w %v", n, err, r)
				return
			}
			s.made = append(s.made, span{from, time.Now()})
		}
	}()
	return s
}

// end stops the load. Only then made may be looked at.
func (s *steady) end(t *testing.T) {
	t.Helper()
	close(s.stop)
	if err := <-s.done; err != nil {
		t.Fatal(err)
	}
}

var steadyName = regexp.MustCompile(`name="[^"]*/event(\d+)/burst-000001"`)

// events counts how often each event's name is in lines.
func (s *steady) events(lines []string) map[int]int {
	at := map[int]int{}
	for _, l := range lines {
		if m := steadyName.FindStringSubmatch(l); m != nil && strings.Contains(l, "type=PATH") && strings.Contains(l, s.dir) {
			n, _ := strconv.Atoi(m[1])
			at[n]++
		}
	}
	return at
}

func linesOf(t *testing.T, file string) []string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}

var daemonEnd = regexp.MustCompile(`type=DAEMON_END msg=audit\((\d+)\.(\d+):`)

// TestKernelForwarderRestarted: our forwarder is the audit daemon, its collector is
// away, and it is restarted while ten events a second come. It reads the kernel while it
// waits for the collector, to the end: what comes between its last record and the next
// one's registration is all that a restart costs.
func TestKernelForwarderRestarted(t *testing.T) {
	const slack = 300 * time.Millisecond // what rests in the socket, and a clock's steps
	k := openKernel(t)
	dir := t.TempDir()
	p, log := kernelForwarder(t, k, dir, "127.0.0.1:1")
	load := startSteady(t, k, dir)
	logged := func() int { return len(load.events(linesOf(t, log))) }
	some := func(n int) {
		t.Helper()
		before := logged()
		if !harness.Poll(2*time.Minute, func() bool { time.Sleep(100 * time.Millisecond); return logged() >= before+n }) {
			t.Fatalf("nothing is logged: %s", p.Output())
		}
	}
	var away, whole time.Duration
	var gaps, waits []span
	var latest []int // event before each end
	for range 3 {
		some(10)
		told := time.Now()
		if err := p.Terminate(time.Minute); err != nil {
			t.Error(err)
		}
		p, _ = kernelForwarder(t, k, dir, "127.0.0.1:1")
		back := time.Now()
		text := strings.Join(linesOf(t, log), "\n")
		ends := daemonEnd.FindAllStringSubmatchIndex(text, -1)
		if len(ends) == 0 {
			t.Fatal("no DAEMON_END in the local log")
		}
		at := ends[len(ends)-1]
		sec, _ := strconv.ParseInt(text[at[2]:at[3]], 10, 64)
		ms, _ := strconv.ParseInt(text[at[4]:at[5]], 10, 64)
		end := time.UnixMilli(sec*1000 + ms)
		before := load.events(strings.Split(text[:at[0]], "\n"))
		latest = append(latest, slices.Max(slices.Collect(maps.Keys(before))))
		waits = append(waits, span{told, end})
		away, whole = away+back.Sub(end), whole+back.Sub(told)
		gaps = append(gaps, span{end.Add(-slack), back.Add(slack)})
	}
	some(10)
	load.end(t)
	// On a busy machine more rests in the kernel; what stands in the log was read to the end.
	for i, n := range latest {
		if last := load.made[n].to; last.Before(gaps[i].from) {
			gaps[i].from = last
		}
	}
	if err := k.RemoveRules(); err != nil {
		t.Fatal(err)
	}
	if err := p.Terminate(time.Minute); err != nil {
		t.Error(err)
	}
	at := load.events(linesOf(t, log))
	missing, within, waiting := 0, 0, map[int]int{}
	for n, made := range load.made {
		covered := true
		for _, g := range gaps {
			covered = covered && (made.to.Before(g.from) || made.from.After(g.to))
		}
		for i, w := range waits {
			if made.from.After(w.from) && made.to.Before(w.to) && at[n] > 0 {
				waiting[i]++
			}
		}
		switch {
		case at[n] > 1:
			t.Errorf("event %d is there %d times", n, at[n])
		case at[n] == 0 && covered:
			t.Errorf("event %d, of %v, when a forwarder read the kernel, is not in the local log", n, made.from)
		case at[n] == 0:
			missing++
		}
		if !covered {
			within++
		}
	}
	t.Logf("%d events, three restarts of %v in all, %v of that without a daemon: %d not in the local log (%d were near a gap)", len(load.made), whole.Round(time.Millisecond), away.Round(time.Millisecond), missing, within)
	for i := range waits { // it reads on while it waits for its collector
		if waiting[i] == 0 {
			t.Errorf("restart %d: of what was made between the signal and the end, nothing is in the local log", i)
		}
	}
}

// pluginOf makes our forwarder a plugin of the stock auditd in dir.
func pluginOf(t *testing.T, dir string, options string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "plugins"), 0o750); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "plugin-options.conf")
	for name, text := range map[string]string{
		file: options,
		filepath.Join(dir, "plugins", "au-fleet.conf"): fmt.Sprintf("active = yes\ndirection = out\npath = %s\ntype = always\nargs = --source=stdin --options=%s\nformat = string\n", binaries(t).Forwarder, file),
	} {
		if err := os.WriteFile(name, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPluginRestarted: our forwarder is a plugin of the stock auditd, which is restarted
// three times while ten events a second come and the collector is away, and once more
// when it is back: what auditd has in its log arrives, once each. The address for metrics
// is somebody else's all the time.
func TestPluginRestarted(t *testing.T) {
	stockPeers(t)
	k := openKernel(t)
	dir := t.TempDir()
	port, err := need.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	pluginOf(t, dir, fmt.Sprintf("# a plugin's options\nremote = 127.0.0.1:%d\nspool = %s/spool\nspool_full = drop-oldest\nhttp = %s\n", port, dir, taken.Addr()))
	start := func() *harness.Auditd {
		a, err := harness.StartAuditdDaemon(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(a.Kill)
		return a
	}
	a := start()
	load := startSteady(t, k, dir)
	logged := func() int { return len(load.events(linesOf(t, a.LogFile))) }
	// some waits until auditd has so many more events in its log: three seconds' where the machine has nothing else to do.
	some := func() {
		t.Helper()
		before := logged()
		if !harness.Poll(2*time.Minute, func() bool { time.Sleep(100 * time.Millisecond); return logged() >= before+30 }) {
			t.Fatalf("auditd logs nothing: %s", a.Output())
		}
	}
	restart := func() {
		some()
		if err := a.Terminate(time.Minute); err != nil {
			t.Error(err)
		}
		a = start()
	}
	restart()
	restart()
	restart()
	c := startCollector(t, harness.CollectorOptions{Port: port, Args: []string{"--tcp-max-per-addr", "8"}})
	restart()
	some()
	load.end(t)
	if err := k.RemoveRules(); err != nil {
		t.Fatal(err)
	}
	var local, remote map[int]int
	same := harness.Poll(2*time.Minute, func() bool {
		local, remote = load.events(linesOf(t, a.LogFile)), load.events(found(t, c, "-k", harness.KeyPrefix+"steady"))
		return len(local) > 0 && len(remote) >= len(local)
	})
	if err := a.Terminate(time.Minute); err != nil {
		t.Error(err)
	}
	missing := 0
	for n := range local {
		if remote[n] == 0 {
			missing++
		}
		if remote[n] > 1 {
			t.Errorf("event %d is stored %d times", n, remote[n])
		}
	}
	t.Logf("%d events made, %d in auditd's log, %d at the collector, %d missing there", len(load.made), len(local), len(remote), missing)
	if !same || missing > 0 || len(local) < 60 {
		t.Errorf("%d of %d in auditd's log are missing at the collector:\n%s", missing, len(local), a.Output())
	}
}
