package cli

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel/kerneltest"
	"github.com/auditfleet/auditfleet/internal/need"
)

// stuckLimit is when the daemon is ended that holds an audited program up.
const stuckLimit = 8 * time.Second

// withStuckPlugin runs an audited workload under a daemon whose plugin reads
// nothing, and returns whether it came to its end beside the daemon, and what the
// kernel lost.
func withStuckPlugin(t *testing.T, ctl *kernel.Conn, program string, stuck bool, calls int) (done bool, lost uint32) {
	t.Helper()
	w := kerneltest.Getppid(t, ctl)
	dir := t.TempDir()
	keyFile(t, dir, "log_format = RAW ; num_logs = 3 ; max_log_file = 50 ; max_log_file_action = ROTATE ; flush = NONE ; q_depth = 2000 ; overflow_action = IGNORE", "")
	plugin := "#!/bin/sh\nexec cat >/dev/null\n"
	if stuck {
		plugin = "#!/bin/sh\nexec sleep 1000\n"
	}
	if err := need.Program(dir+"/plugin", []byte(plugin), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/plugins/p.conf", fmt.Appendf(nil, "active = yes\npath = %s/plugin\ntype = always\n", dir), 0o640); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", "-m", "sh", "-c", fmt.Sprintf("mount --bind %s/run /run && exec %s -n -c %s/conf", dir, program, dir))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		// A stock daemon that is stuck with its plugin ends by SIGKILL only.
		timer := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() }) // ended already
		_ = cmd.Process.Signal(unix.SIGTERM)                                       // likewise
		_ = cmd.Wait()                                                             // killed, perhaps
		timer.Stop()
		// The stock daemon's plugin, which is in its group, outlives it.
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) // gone already
	}()
	waitFor(t, "the daemon is registered", func() bool {
		s, err := ctl.Status()
		return err == nil && s.PID == uint32(cmd.Process.Pid)
	})
	before, err := ctl.Status()
	if err != nil {
		t.Fatal(err)
	}
	// The kernel lets an audited program wait up to a minute for each record: what
	// takes longer than this is ended with its daemon.
	limit := time.AfterFunc(stuckLimit, func() { _ = cmd.Process.Kill() }) // it has ended
	began := time.Now()
	w.Run(t, calls)
	done = limit.Stop()
	t.Logf("%-28s %d audited calls in %v", program, calls, time.Since(began).Round(time.Millisecond))
	after, err := ctl.Status()
	if err != nil {
		t.Fatal(err)
	}
	return done, after.Lost - before.Lost
}

// A plugin that hangs costs an audited program nothing here. The stock daemon's
// figures stand beside ours in the log.
func TestStuckPluginDoesNotSlowTheHost(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: real programs, one after the other, for some ten seconds")
	}
	auditd := need.Stock(t, "auditd")
	ctl := kerneltest.Dial(t)
	const calls = 20000
	bin := copySelf(t, t.TempDir(), "auditd")
	run := func(name, program string, stuck bool) (bool, uint32) {
		done, lost := withStuckPlugin(t, ctl, program, stuck, calls)
		t.Logf("%s: done %v, the kernel lost %d", name, done, lost)
		return done, lost
	}
	run("ours, plugin well", bin, false)
	done, lost := run("ours, plugin stuck", bin, true)
	run("stock, plugin well", auditd, false)
	run("stock, plugin stuck", auditd, true)
	if !done || lost != 0 {
		t.Errorf("a stuck plugin: the audited program got to its end: %v; the kernel lost %d", done, lost)
	}
}
