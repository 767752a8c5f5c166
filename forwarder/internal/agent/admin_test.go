package agent

import (
	"context"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel/fakekernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/locallog"
	"github.com/auditfleet/auditfleet/forwarder/internal/spool"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/dispatch"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// withoutHeader is the daemon's own records, from their type on, without time and
// serial.
func withoutHeader(lines []string) (out []string) {
	re := regexp.MustCompile(`^(node=\S+ )?type=(DAEMON_\w+) msg=audit\(\d+\.\d{3}:\d+\): (.*)$`)
	for _, l := range lines {
		if m := re.FindStringSubmatch(l); m != nil {
			out = append(out, m[1]+m[2]+" "+m[3])
		}
	}
	return out
}

// A signal's record says who sent it in the stock daemon's words, observed with
// auditd 3.0.9 on a machine without a security module.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	k := fakekernel.New()
	k.SetSignal(kernel.SignalInfo{UID: 1000, PID: 1 << 30})
	good := Changed{
		Node: "after", Log: locallog.Config{Path: dir + "/log/second.log", NumLogs: 3},
		Enrich:  func(dst []byte, _ *record.Record) []byte { return append(dst, "\x1dX"...) },
		Plugins: &dispatch.Config{Settings: dispatch.Settings{Depth: 10, Overflow: conf.DoIgnore, MaxRestarts: 9}, Plugins: []conf.Plugin{script(t, dir, "new", "trap '' HUP; exec cat >"+dir+"/out")}},
	}
	next, nextErr := Changed{}, errors.New("auditd.conf:3: no")
	s := startAgent(t, fake(k, Config{
		Log: locallog.Config{Path: dir + "/log/first.log", NumLogs: 3}, Node: "before",
		Plugins: &dispatch.Config{Settings: dispatch.Settings{Depth: 10, Overflow: conf.DoIgnore}},
		Reload:  func(context.Context) (Changed, error) { return next, nextErr },
	}))
	s.Reload(t.Context())
	next, nextErr = good, nil
	next.Node = "two words"
	s.Reload(t.Context())
	next.Node, next.Log.Path = "after", dir+"/log/first.log/x"
	s.Reload(t.Context())
	next = good
	s.Reload(t.Context())
	wait(t, "the new plugin is up", func() bool { _, err := os.Stat(dir + "/out"); return err == nil })
	next.Log.Path = "" // write_logs = no
	s.Reload(t.Context())
	next = good
	s.Reload(t.Context())
	s.stop()
	if err := s.end(t); err != nil {
		t.Fatal(err)
	}
	failed := "node=before DAEMON_CONFIG op=reconfigure state=no-change auid=1000 pid=1073741824 subj=? res=failed"
	changed := "node=after DAEMON_CONFIG op=reconfigure state=changed auid=1000 pid=1073741824 subj=? res=success\x1dX"
	if diff := cmp.Diff([]string{failed, failed, failed}, withoutHeader(fileLines(t, dir+"/log/first.log"))[1:]); diff != "" {
		t.Error(diff)
	}
	end := "node=after DAEMON_END op=terminate auid=1000 uid=4294967295 ses=4294967295 pid=1073741824 res=success\x1dX"
	if diff := cmp.Diff([]string{changed, changed, end}, withoutHeader(fileLines(t, dir+"/log/second.log"))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{changed, changed, changed, end}, withoutHeader(fileLines(t, dir+"/out"))); diff != "" {
		t.Errorf("the plugin: %s", diff)
	}
}

// A configuration whose log can't be opened changes nothing of shipping either: neither
// its servers nor a suspension.
func TestReloadRefusedByTheLog(t *testing.T) {
	dir := t.TempDir()
	first, second := newCollector(t), newCollector(t)
	next := Changed{Log: locallog.Config{Path: dir + "/log/audit.log/x"}, Ship: shipTo(second.addr)}
	k := fakekernel.New()
	s := startAgent(t, fake(k, Config{
		Log: locallog.Config{Path: dir + "/log/audit.log"}, Ship: shipTo(first.addr), Spool: spool.Options{Dir: dir + "/spool"},
		Reload: func(context.Context) (Changed, error) { return next, nil },
	}))
	arrives := func(c *collector, what string) {
		t.Helper()
		wait(t, what, func() bool { return strings.Contains(strings.Join(c.got(), "\n"), what) })
	}
	s.Reload(t.Context())
	arrives(first, "res=failed")
	k.Emit(1300, "behind it")
	arrives(first, "behind it")
	next.Log.Path = dir + "/log/audit.log"
	s.Reload(t.Context())
	arrives(second, "res=success")
	if got := strings.Join(second.got(), "\n"); strings.Contains(got, "behind it") {
		t.Errorf("the second server has %s", got)
	}
	s.stop()
	if err := s.end(t); err != nil {
		t.Fatal(err)
	}
}

// A start that fails at the kernel leaves what the stock daemon leaves.
func TestAbort(t *testing.T) {
	dir := t.TempDir()
	k := fakekernel.New()
	k.OtherDaemon(1)
	if _, err := Open(t.Context(), fake(k, Config{Version: "1", Log: locallog.Config{Path: dir + "/log/audit.log"}})); !errors.Is(err, kernel.ErrOtherDaemon) {
		t.Fatal(err)
	}
	got := withoutHeader(fileLines(t, dir+"/log/audit.log"))
	re := regexp.MustCompile(`^DAEMON_START op=start ver=1 format=raw kernel=\S+ auid=\d+ pid=\d+ uid=\d+ ses=\d+ res=success\nDAEMON_ABORT op=set-pid auid=\d+ pid=\d+ uid=\d+ ses=\d+ res=failed$`)
	if !re.MatchString(strings.Join(got, "\n")) {
		t.Errorf("%q", got)
	}
}

// The state report has every line of the stock daemon's, and ours after them.
func TestReport(t *testing.T) {
	dir := t.TempDir()
	k := fakekernel.New()
	s := startAgent(t, fake(k, Config{
		Version: "1.2", Report: dir + "/state", Now: func() time.Time { return time.Date(2026, 11, 22, 9, 46, 10, 0, time.UTC) },
		Log:     locallog.Config{Path: dir + "/log/audit.log", MaxSize: 8 << 20, NumLogs: 3, SpaceLeft: conf.Space{MiB: 2}, AdminSpaceLeft: conf.Space{MiB: 1}},
		Plugins: &dispatch.Config{Settings: dispatch.Settings{Depth: 2000, Overflow: conf.DoIgnore}, Plugins: []conf.Plugin{script(t, dir, "p", "exec cat >"+dir+"/out")}},
	}))
	k.Emit(1300, "x")
	wait(t, "it is logged", func() bool { return s.log.Load().Stats().Records == 3 })
	wait(t, "the plugin runs", func() bool { return s.plugins.Stats()[0].Up })
	s.Report()
	wait(t, "the report is there", func() bool { _, err := os.Stat(dir + "/state"); return err == nil })
	got := strings.Join(fileLines(t, dir+"/state"), "\n")
	got = regexp.MustCompile(`(?m)(priority = |free space |max plugin queue depth used = |queue depth = |pid = |queued = |receive buffer used = |delivered = | of )[-0-9]+`).ReplaceAllString(got, "${1}N")
	const want = `audit version = 1.2
current time = 11/22/26 09:46:10
process priority = N
writing to logs = yes
current log size = 0 KB
max log size = 8192 KB
logs detected last rotate/shift = 0
space left on partition = yes
Logging partition free space N MB
space_left setting 2 MB
admin_space_left setting 1 MB
logging suspended = no
file system space action performed = no
admin space action performed = no
disk error detected = no
log removed or renamed by another program, times = 0
records in a removed log = 0
Number of active plugins = 1
current plugin queue depth = N
max plugin queue depth used = N
plugin queue size = 2000
plugin queue overflow detected = no
plugin queueing suspended = no
plugin p: up = yes, pid = N, queued = N, delivered = N, dropped = 0, restarts = 0
listening for network connections = no
records handed on = 3
records lost, kernel = 0
records lost, before-start = 0
records lost, overrun = 0
records lost, queue = 0
records lost, truncated = 0
records lost, malformed = 0
records lost, local-log = 0
audit records can come = yes
records waiting for the disk = 0
event serials never seen (informative, no loss by itself) = 0
receive buffer used = N of N KB`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if info, err := os.Stat(dir + "/state"); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v %v", info.Mode(), err)
	}
}

func TestReportIsDue(t *testing.T) {
	var r reporter
	now := time.Unix(1700000000, 0)
	if r.due(now) {
		t.Error("due without an interval")
	}
	r.setEvery(time.Minute)
	for i, want := range []bool{true, false, false, true, false} {
		if got := r.due(now.Add(time.Duration(i) * 25 * time.Second)); got != want {
			t.Errorf("after %d s: %v", i*25, got)
		}
	}
}

// All threads take the boost, and a program that is started inherits it.
func TestPriorityBoost(t *testing.T) {
	need.Root(t)
	dir := t.TempDir()
	a := &Agent{}
	a.cfg.defaults()
	defer a.boost(0)
	a.boost(5)
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	if len(tasks) < 2 {
		t.Error("one thread only")
	}
	if nice, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err != nil || 20-nice != -5 {
		t.Errorf("niceness %d, %v", 20-nice, err)
	}
	d, err := dispatch.Open(dispatch.Config{Settings: dispatch.Settings{Depth: 1, Overflow: conf.DoIgnore}, Plugins: []conf.Plugin{script(t, dir, "p", "nice >"+dir+"/nice; exec cat >/dev/null")}})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, "the plugin's niceness", func() bool { b, _ := os.ReadFile(dir + "/nice"); return len(b) > 0 })
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if got := fileLines(t, dir+"/nice"); got[0] != "-5" {
		t.Errorf("a plugin has niceness %s", got[0])
	}
}
