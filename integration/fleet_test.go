package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/need"
)

// TestRollout puts the forwarder on three hosts by deploy/fleet/rollout.sh, from a collector as docs/fleet.md has it; one of which can't be reached at first: ssh is
// a program that gives each its own folders, and systemctl one that has the forwarder ship a sample log as the configuration says.
func TestRollout(t *testing.T) {
	t.Parallel()
	bins := binaries(t)
	dir := t.TempDir()
	run := func(env []string, args ...string) (string, error) {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	ca, tls := filepath.Join(dir, "ca"), filepath.Join(dir, "tls")
	for _, args := range [][]string{{"init", "--dir", ca}, {"issue", "localhost", "--ip", "127.0.0.1", "--dir", ca, "--out", tls}} {
		if out, err := run(nil, append([]string{bins.Collector, "ca"}, args...)...); err != nil {
			t.Fatal(out, err)
		}
	}
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	server := fmt.Sprintf("localhost:%d", port)
	page, err := os.ReadFile(need.Source(t, "docs/fleet.md"))
	if err != nil {
		t.Fatal(err)
	}
	config := regexp.MustCompile("(?s)```ini\n(.*?)```").FindStringSubmatch(string(page))
	if config == nil {
		t.Fatal("docs/fleet.md has no configuration of the collector")
	}
	conf := filepath.Join(dir, "collector.conf")
	text := strings.NewReplacer(":61", fmt.Sprintf("127.0.0.1:%d", port), "/etc/auditfleet/tls", tls, "/var/lib/auditfleet/ca", ca, "collector.example.com", "localhost").Replace(config[1])
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := startCollector(t, harness.CollectorOptions{Store: filepath.Join(dir, "store"), Args: []string{"--config", conf}})

	sample := need.Source(t, "integration/cmd/firstlight/testdata/sample.log")
	programs := map[string]string{
		"ssh": `[ "$1" != down ] || [ -e up ] || { echo "connect to host down: no route"; exit 255; }
mkdir -p hosts/$1/etc
exec env ETC=$PWD/hosts/$1/etc SPOOL=$PWD/hosts/$1/spool sh -c "$2"`,
		"collector": `exec ` + bins.Collector + ` "$@"`,
		"forwarder": `[ "$1" != doctor ] || exit 1
exec ` + bins.Forwarder + ` "$@"`,
		"dpkg": `echo "dpkg $*"; [ ! -e "$ETC/auditd.conf" ] || exit 0
echo "log_file = $ETC/audit.log" >"$ETC/auditd.conf"; echo "# the package's" >"$ETC/forwarder.conf"`,
		"service":    `echo "service $*"`,
		"journalctl": `echo "journalctl $*"`,
		"systemctl": `echo "systemctl $*"; [ "$1" = restart ] || exit 0
[ ! -e "$ETC/fails" ] || exit 1
exec ` + bins.Forwarder + ` --options "$ETC/forwarder.conf" --source ` + sample,
	}
	if err := os.Mkdir(filepath.Join(dir, "path"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range programs {
		if err := need.Program(filepath.Join(dir, "path", name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"hosts.txt": "web1 # the first\ndb1\ndown\n", "auditfleet-forwarder.deb": "a package"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{"PATH=" + filepath.Join(dir, "path") + ":" + os.Getenv("PATH"), "COLLECTOR=" + server, "CA=" + ca, "SSH=ssh"}
	script := need.Source(t, "deploy/fleet/rollout.sh")
	said, err := run(env, "sh", script, "hosts.txt", "auditfleet-forwarder.deb")
	if err == nil || !strings.Contains(said, "down: FAILED: connect to host down: no route\n") || !strings.HasSuffix(said, "2 of 3 hosts are done\n") {
		t.Fatalf("%v\n%s\n%s", err, said, logsOf(dir))
	}
	// It can be reached now, but a connection was cut off while it enrolled, and its forwarder does not start: it has its auditd back.
	etc := filepath.Join(dir, "hosts", "down", "etc")
	if err := os.MkdirAll(filepath.Join(etc, "tls"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{filepath.Join(dir, "up"), filepath.Join(etc, "fails"), filepath.Join(etc, "tls", "down.key")} {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	said, err = run(env, "sh", script, "hosts.txt", "auditfleet-forwarder.deb")
	if err == nil || said != "down: FAILED: the forwarder did not start: auditd runs again\n2 of 3 hosts are done\n" || !strings.Contains(logsOf(dir), "systemctl start auditd.service\n") {
		t.Fatalf("%v\n%s\n%s", err, said, logsOf(dir))
	}
	if err := os.Remove(filepath.Join(etc, "fails")); err != nil {
		t.Fatal(err)
	}
	said, err = run(env, "sh", script, "hosts.txt", "auditfleet-forwarder.deb")
	if err != nil || said != "down: done\n3 of 3 hosts are done\n" {
		t.Fatalf("%v\n%s\n%s", err, said, logsOf(dir))
	}
	for _, host := range []string{"web1", "db1", "down"} {
		r, err := c.Search(time.Minute, "-n", host, "--count")
		if err != nil || strings.TrimSpace(string(r.Stdout)) == "0" || r.Code != 0 {
			t.Errorf("%s: %v %+v", host, err, r)
		}
		before, err := os.ReadFile(filepath.Join(dir, "hosts", host, "etc", "forwarder.conf.before"))
		if err != nil || string(before) != "# the package's\n" {
			t.Errorf("%s: %v %q", host, err, before)
		}
		if left, err := os.ReadFile(filepath.Join(dir, "rollout", host+".log")); err != nil || strings.Contains(string(left), "auditfleet-token") {
			t.Errorf("%v: a token in %s", err, left)
		}
	}
}

// logsOf is what the hosts said.
func logsOf(dir string) string {
	var all strings.Builder
	files, _ := filepath.Glob(filepath.Join(dir, "rollout", "*.log"))
	for _, f := range files {
		text, _ := os.ReadFile(f)
		fmt.Fprintf(&all, "%s:\n%s\n", filepath.Base(f), text)
	}
	return all.String()
}
