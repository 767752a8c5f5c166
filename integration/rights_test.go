package integration

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/need"
)

// unit returns the text of a unit that is shipped.
func unit(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(need.Source(t, "deploy/auditfleet-"+name+".service"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// capabilities are those of a unit's line, in setpriv's words: -all,+audit_control.
func capabilities(text, key string) string {
	list := "-all"
	for line := range strings.Lines(text) {
		if names, ok := strings.CutPrefix(strings.TrimSpace(line), key+"="); ok {
			for _, name := range strings.Fields(names) {
				list += ",+" + strings.ToLower(strings.TrimPrefix(name, "CAP_"))
			}
		}
	}
	return list
}

// What systemd says of the units' exposure stays as good as SECURITY.md says.
func TestUnitsExposure(t *testing.T) {
	t.Parallel()
	analyze := need.Tool(t, "systemd-analyze")
	overall := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`)
	exposure := func(file string) float64 {
		t.Helper()
		out, err := exec.Command(analyze, "security", "--offline=yes", "--no-pager", file).CombinedOutput()
		m := overall.FindSubmatch(out)
		if m == nil {
			need.Missing(t, fmt.Sprintf("systemd-analyze says nothing of a unit that is not installed: %v\n%s", err, out))
		}
		level, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			t.Fatal(err)
		}
		return level
	}
	for name, most := range map[string]float64{"collector": 2.0, "forwarder": 5.0} {
		if is := exposure(need.Source(t, "deploy/auditfleet-"+name+".service")); is > most {
			t.Errorf("the %s's exposure is %.1f, and was to be %.1f at most", name, is, most)
		} else {
			t.Logf("%s: %.1f", name, is)
		}
	}
	const stock = "/lib/systemd/system/auditd.service"
	if _, err := os.Stat(stock); err == nil {
		t.Logf("stock auditd: %.1f", exposure(stock))
	}
}

// The collector does all its work as a user without rights, but for the one to a port below
// 1024, and root's commands on its store leave nothing there that it could not read.
func TestCollectorAsItsOwnUser(t *testing.T) {
	t.Parallel()
	need.Root(t)
	setpriv := need.Tool(t, "setpriv")
	const uid, addr = "64901", "127.0.0.91:614"
	dir, err := os.MkdirTemp("/var/tmp", "auditfleet-user-") // t.TempDir's is root's alone
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	store, program := dir+"/lib/store", dir+"/collector"
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Chmod(dir, 0o755))
	must(os.MkdirAll(store, 0o700))
	must(os.Chmod(dir+"/lib", 0o755))
	must(os.Chown(store, 64901, 64901))
	text, err := os.ReadFile(binaries(t).Collector)
	must(err)
	must(need.Program(program, text, 0o755))
	rights := capabilities(unit(t, "collector"), "AmbientCapabilities")
	p, err := harness.Start(harness.Spec{Name: "collector serve", Args: []string{
		setpriv, "--reuid=" + uid, "--regid=" + uid, "--clear-groups", "--no-new-privs",
		"--bounding-set=" + capabilities(unit(t, "collector"), "CapabilityBoundingSet"), "--inh-caps=" + rights, "--ambient-caps=" + strings.TrimPrefix(rights, "-all,"),
		program, "serve", "--store", store, "--listen", addr, "--http", "",
	}})
	must(err)
	t.Cleanup(p.Kill)
	if !harness.Poll(time.Minute, func() bool { return strings.Contains(p.Output(), "collector: ready") || p.Exited() }) || p.Exited() {
		t.Fatalf("it is not ready:\n%s", p.Output())
	}
	log := dir + "/in.log"
	must(os.WriteFile(log, []byte("node=web1 type=USER_LOGIN msg=audit(1764460000.000:1): pid=1 uid=0\n"), 0o600))
	f := startForwarder(t, dir, addr, log, nil, "--report", dir+"/report")
	must(f.Wait(time.Minute))
	ask := func(args ...string) {
		t.Helper()
		r, err := harness.Run(time.Minute, append([]string{program}, args...)...)
		if err != nil || r.Code != 0 {
			t.Errorf("%s: %v, exit code %d: %s%s", args, err, r.Code, r.Stdout, r.Stderr)
		}
	}
	asRoot := func() {
		ask("search", "--store", store, "-m", "USER_LOGIN")
		ask("hosts", "--store", store)
		ask("verify", "--store", store)
		ask("last", "--store", store)
	}
	asRoot()
	ask("hold", "add", "web1", "--reason", "case", "--store", store)
	ask("backup", dir+"/backup", "--store", store)
	ca := dir + "/lib/ca"
	ask("ca", "init", "--dir", ca)
	must(chownAll(ca, 64901))
	ask("token", "web1", "--dir", ca)
	ask("ca", "list", "--dir", ca)
	if r, err := harness.Run(time.Minute, program, "ca", "issue", "web2", "--dir", ca, "--out", dir+"/tls"); err != nil || r.Code == 0 || !strings.Contains(string(r.Stderr), "run this as that user") {
		t.Errorf("issue as root of another's CA: %v, %s", err, r.Stderr)
	}
	if err := p.Terminate(time.Minute); err != nil {
		t.Errorf("%v\n%s", err, p.Output())
	}
	if strings.Contains(p.Output(), "permission denied") || strings.Contains(p.Output(), "not permitted") {
		t.Errorf("it lacks a right:\n%s", p.Output())
	}
	asRoot() // with nobody at the socket
	must(filepath.WalkDir(dir+"/lib", func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && path != dir+"/lib" && fmt.Sprint(harness.Owner(info)) != uid {
			t.Errorf("%s is not the collector's", path)
		}
		return err
	}))
}

// With the rights of its unit and no others the forwarder is the kernel's daemon, takes its
// priority, gives the log to its group, and runs and ends a plugin that becomes another user.
func TestForwarderWithItsUnitsRights(t *testing.T) {
	setpriv := need.Tool(t, "setpriv")
	k := openKernel(t)
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if err := os.Mkdir(filepath.Join(dir, "plugins"), 0o750); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(dir, "plugin")
	if err := need.Program(script, []byte("#!/bin/sh\nexec "+setpriv+" --reuid=64902 --regid=64902 --clear-groups cat >"+dir+"/plugged\n"), 0o750); err != nil {
		t.Fatal(err)
	}
	write("plugins/p.conf", "active = yes\ndirection = out\npath = "+script+"\ntype = always\nformat = string\n", 0o640)
	log := filepath.Join(dir, "log", "audit.log")
	conf := write("auditd.conf", "log_file = "+log+"\nlog_group = adm\nplugin_dir = "+dir+"/plugins\npriority_boost = 4\n", 0o640)
	p, err := harness.Start(harness.Spec{Name: "forwarder", Args: []string{
		setpriv, "--bounding-set=" + capabilities(unit(t, "forwarder"), "CapabilityBoundingSet"),
		binaries(t).Forwarder, "--config", conf, "--remote", "127.0.0.1:1", "--spool", dir + "/spool", "--state", dir + "/serial",
		"--report", dir + "/report", "--pid-file", dir + "/pid", "--shutdown-timeout", "1ms",
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	plugged := func() string { b, _ := os.ReadFile(dir + "/plugged"); return string(b) }
	if !harness.Poll(time.Minute, func() bool {
		st, err := k.Status()
		return p.Exited() || err == nil && st["pid"] == p.Pid() && strings.Contains(plugged(), "DAEMON_START")
	}) || p.Exited() {
		t.Fatalf("it is not the kernel's daemon, or its plugin has nothing: %q\n%s", plugged(), p.Output())
	}
	if err := p.Terminate(time.Minute); err != nil {
		t.Errorf("%v\n%s", err, p.Output())
	}
	if !strings.Contains(plugged(), "DAEMON_END") {
		t.Errorf("the plugin was not given the end: %q", plugged())
	}
	for _, lacks := range []string{"permission denied", "not permitted", "can't be taken", "receive buffer is smaller"} {
		if strings.Contains(p.Output(), lacks) {
			t.Errorf("it lacks a right (%s):\n%s", lacks, p.Output())
		}
	}
	info, err := os.Stat(log)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the log's mode: %v, %v", info, err)
	}
}

// chownAll gives a folder and all in it to a user.
func chownAll(dir string, uid int) error {
	return filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, uid, uid))
	})
}
