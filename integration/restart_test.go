package integration

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
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
	time.Sleep(2 * time.Second)
	var away, whole time.Duration
	var gaps []span
	for range 3 {
		told := time.Now()
		if err := p.Terminate(time.Minute); err != nil {
			t.Error(err)
		}
		p, _ = kernelForwarder(t, k, dir, "127.0.0.1:1")
		back := time.Now()
		ends := daemonEnd.FindAllStringSubmatch(strings.Join(linesOf(t, log), "\n"), -1)
		if len(ends) == 0 {
			t.Fatal("no DAEMON_END in the local log")
		}
		sec, _ := strconv.ParseInt(ends[len(ends)-1][1], 10, 64)
		ms, _ := strconv.ParseInt(ends[len(ends)-1][2], 10, 64)
		end := time.UnixMilli(sec*1000 + ms)
		away, whole = away+back.Sub(end), whole+back.Sub(told)
		gaps = append(gaps, span{end.Add(-slack), back.Add(slack)})
		time.Sleep(time.Second)
	}
	load.end(t)
	if err := k.RemoveRules(); err != nil {
		t.Fatal(err)
	}
	if err := p.Terminate(time.Minute); err != nil {
		t.Error(err)
	}
	at := load.events(linesOf(t, log))
	missing, within := 0, 0
	for n, made := range load.made {
		covered := true
		for _, g := range gaps {
			covered = covered && (made.to.Before(g.from) || made.from.After(g.to))
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
	if len(load.made) < 60 || away > whole/2 {
		t.Errorf("%d events; without a daemon for %v of %v", len(load.made), away, whole)
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
	port, err := harness.FreePort()
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
	restart := func() {
		time.Sleep(3 * time.Second)
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
	time.Sleep(3 * time.Second)
	load.end(t)
	if err := k.RemoveRules(); err != nil {
		t.Fatal(err)
	}
	var local, remote map[int]int
	same := harness.Poll(60*time.Second, func() bool {
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
