package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/need"
)

// kernelOpen says that a test has the kernel's audit.
var kernelOpen atomic.Bool

// openKernel takes the kernel's audit for this test and gives it back after it.
func openKernel(t *testing.T) *harness.Kernel {
	t.Helper()
	need.Root(t)
	need.Stock(t, "auditctl")
	need.Kernel(t)
	k, err := harness.OpenKernel()
	if err != nil {
		t.Fatal(err)
	}
	kernelOpen.Store(true)
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
		kernelOpen.Store(false)
	})
	// The kernel's own queue is 64 records long. Where that is full, programs and a daemon that registers wait, and on a busy machine it
	// misses to wake them: they go on after a minute (backlog_wait_time).
	if r, err := harness.Run(time.Minute, "/sbin/auditctl", "-b", "8192"); err != nil || r.Code != 0 {
		t.Fatalf("auditctl -b: %v %+v", err, r)
	}
	return k
}

// kernelForwarder starts our forwarder as this machine's audit daemon, with a
// configuration and a local log of its own.
func kernelForwarder(t *testing.T, k *harness.Kernel, dir, remote string, args ...string) (p *harness.Proc, log string) {
	t.Helper()
	log = filepath.Join(dir, "audit.log")
	conf := filepath.Join(dir, "auditd.conf")
	text := "log_file = " + log + "\nlog_format = raw\nname_format = user\nname = kernel1\nmax_log_file = 1000\nmax_log_file_action = ignore\n" +
		"space_left_action = ignore\nadmin_space_left_action = ignore\ndisk_full_action = ignore\ndisk_error_action = ignore\n"
	if err := os.WriteFile(conf, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	p = startForwarder(t, dir, remote, "kernel", nil, append([]string{"--config", conf}, args...)...)
	registered := func() bool {
		st, err := k.Status()
		return err == nil && st["pid"] == p.Pid()
	}
	if !harness.Poll(time.Minute, func() bool { return registered() || p.Exited() }) || p.Exited() {
		t.Fatalf("the forwarder did not register with the kernel:\n%s", p.Output())
	}
	return p, log
}

// TestKernelBurst: our forwarder reads a burst of 20,000 events from the kernel;
// all are in its local log, as the stock ausearch reads it, and on the collector,
// the same bytes, and the kernel lost nothing.
func TestKernelBurst(t *testing.T) {
	bins := binaries(t)
	k := openKernel(t)
	need.Stock(t, "ausearch")
	c := startCollector(t, harness.CollectorOptions{})
	dir := t.TempDir()
	before, err := k.Status()
	if err != nil {
		t.Fatal(err)
	}
	p, log := kernelForwarder(t, k, dir, c.Addr())

	const events = 20_000
	key := harness.KeyPrefix + "burst"
	if err := k.Add("always,exit", "-F", "arch=b64", "-S", "openat", "-F", "exit=-ENOENT", "-F", "exe="+bins.Work, "-k", key); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	r, err := harness.Run(5*time.Minute, bins.Work, "burst", "-n", fmt.Sprint(events), "-dir", dir)
	if err != nil || r.Code != 0 {
		t.Fatalf("the burst: %v %s", err, r.Stderr)
	}
	burst := time.Since(begin)
	if err := k.RemoveRules(); err != nil {
		t.Fatal(err)
	}
	missing := events
	if !harness.Poll(time.Minute, func() bool {
		missing = len(missingNames(foundKey(t, c, key), dir, events))
		return missing == 0
	}) {
		t.Errorf("%d of %d events did not come to the collector; the forwarder's output:\n%s", missing, events, p.Output())
	}
	t.Logf("%d events in %v (%.0f a second), all found %v after the first", events, burst, events/burst.Seconds(), time.Since(begin))
	after, err := k.Status()
	if err != nil {
		t.Fatal(err)
	}
	if after["lost"] != before["lost"] {
		t.Errorf("the kernel lost %d records", after["lost"]-before["lost"])
	}
	if err := p.Terminate(time.Minute); err != nil {
		t.Error(err)
	}
	if st, err := k.Status(); err != nil || st["pid"] != 0 {
		t.Errorf("after the forwarder's end pid %d is registered with the kernel (%v)", st["pid"], err)
	}

	local := ofHost(stockFinds(t, log, "-k", key))
	remote := foundKey(t, c, key)
	if left := missingNames(local, dir, events); len(left) > 0 {
		t.Errorf("%d of %d events are not in the local log, the first: %s", len(left), events, left[0])
	}
	sameRecords(t, local, remote)
	inOrder(t, local, remote)
}

// foundKey is found for a question that may have no answer yet.
func foundKey(t *testing.T, c *harness.Collector, key string) []string {
	t.Helper()
	r, err := c.Search(time.Minute, "--format", "raw", "-k", key)
	if err != nil {
		t.Fatal(err)
	}
	if r.Code > 1 {
		t.Fatalf("collector search -k %s: exit %d: %s", key, r.Code, r.Stderr)
	}
	return ofHost(strings.Split(string(r.Stdout), "\n"))
}

// ofHost takes the burst's lines from a search: adding and removing the rule has
// its key too.
func ofHost(lines []string) []string {
	rule := map[string]bool{}
	for _, line := range lines {
		if strings.Contains(line, "type=CONFIG_CHANGE") {
			rule[eventOf(line)] = true
		}
	}
	return slices.DeleteFunc(lines, func(line string) bool { return line == "" || rule[eventOf(line)] })
}

// missingNames lists the names of a burst that have no record in lines; a name
// that is there twice counts as missing too, for it is as wrong.
func missingNames(lines []string, dir string, n int) []string {
	times := map[string]int{}
	for _, line := range lines {
		if _, rest, ok := strings.Cut(line, ` name="`+dir+"/burst-"); ok && strings.Contains(line, "type=PATH") {
			name, _, _ := strings.Cut(rest, `"`)
			times[name]++
		}
	}
	var missing []string
	for i := 1; i <= n; i++ {
		if name := fmt.Sprintf("%06d", i); times[name] != 1 {
			missing = append(missing, name)
		}
	}
	return missing
}

// TestForwarderUnderStockDaemon: the forwarder as a plugin of a stock auditd, in
// place of audisp-remote: the events of the host come to the collector.
func TestForwarderUnderStockDaemon(t *testing.T) {
	bins := binaries(t)
	stockPeers(t)
	k := openKernel(t)
	c := startCollector(t, harness.CollectorOptions{})
	dir := t.TempDir()
	plugins := filepath.Join(dir, "plugins")
	if err := os.MkdirAll(plugins, 0o750); err != nil {
		t.Fatal(err)
	}
	// What the daemon hands to the plugin is kept on the way: it differs from its
	// log, where an empty enriched part follows records that have none.
	plugin, handed := filepath.Join(dir, "plugin"), filepath.Join(dir, "handed.log")
	script := fmt.Sprintf("#!/bin/sh\ntee %s | %s --source stdin --remote %s --spool %s 2>>%s\n",
		handed, bins.Forwarder, c.Addr(), filepath.Join(dir, "spool"), filepath.Join(dir, "plugin.err"))
	if err := need.Program(plugin, []byte(script), 0o750); err != nil {
		t.Fatal(err)
	}
	text := "active = yes\ndirection = out\npath = " + plugin + "\ntype = always\nformat = string\n"
	if err := os.WriteFile(filepath.Join(plugins, "fleet.conf"), []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	daemon, err := harness.StartAuditdDaemon(filepath.Join(dir, "auditd"), map[string]string{
		"plugin_dir": plugins, "name_format": "user", "name": "plugged1", "log_format": "ENRICHED",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(daemon.Kill)
	key := harness.KeyPrefix + "plugin"
	if err := k.Add("always,exit", "-F", "arch=b64", "-S", "openat", "-F", "exit=-ENOENT", "-F", "exe="+bins.Work, "-k", key); err != nil {
		t.Fatal(err)
	}
	const events = 500
	if r, err := harness.Run(5*time.Minute, bins.Work, "burst", "-n", fmt.Sprint(events), "-dir", dir); err != nil || r.Code != 0 {
		t.Fatalf("the burst: %v", err)
	}
	if err := k.RemoveRules(); err != nil {
		t.Fatal(err)
	}
	if !harness.Poll(time.Minute, func() bool { return len(missingNames(foundKey(t, c, key), dir, events)) == 0 }) {
		t.Errorf("%d of %d events did not come; stock auditd's output:\n%s", len(missingNames(foundKey(t, c, key), dir, events)), events, daemon.Output())
	}
	if err := daemon.Terminate(time.Minute); err != nil {
		t.Error(err)
	}
	// As audisp-remote does, the forwarder leaves the ends of events (EOE) out.
	local := slices.DeleteFunc(ofHost(stockFinds(t, handed, "-k", key)), func(line string) bool { return strings.Contains(line, "type=EOE ") })
	sameRecords(t, local, foundKey(t, c, key))
}
