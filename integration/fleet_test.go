package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/need"
)

// fleet is a log host as docs/fleet.md has it, from which rollout.sh is run, and the programs that its hosts have.
type fleet struct {
	dir       string
	env       []string
	collector *harness.Collector
}

func (f *fleet) run(env []string, args ...string) (string, error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env = f.dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// rollout runs the script for the hosts of a list, with what is put before the fleet's own settings.
func (f *fleet) rollout(t *testing.T, list string, env ...string) (string, error) {
	t.Helper()
	return f.run(append(slices.Clone(f.env), env...), "sh", need.Source(t, "deploy/fleet/rollout.sh"), list, "auditfleet-forwarder.deb")
}

func (f *fleet) write(t *testing.T, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// has fails where a host's records are not with the collector, its configuration of before is not kept, or its log holds a token.
func (f *fleet) has(t *testing.T, host, before string) {
	t.Helper()
	r, err := f.collector.Search(time.Minute, "-n", host, "--count")
	if err != nil || strings.TrimSpace(string(r.Stdout)) == "0" || r.Code != 0 {
		t.Errorf("%s: %v %+v", host, err, r)
	}
	// Under the name that its certificate proves, and in no other's.
	if r, err := f.collector.Search(time.Minute, "-n", host, "--mismatch", "--count"); err != nil || strings.TrimSpace(string(r.Stdout)) != "0" {
		t.Errorf("%s: %v: mismatches: %+v", host, err, r)
	}
	kept, err := os.ReadFile(filepath.Join(f.dir, "hosts", host, "etc", "forwarder.conf.before"))
	if err != nil || string(kept) != before {
		t.Errorf("%s: %v %q", host, err, kept)
	}
	if left, err := os.ReadFile(filepath.Join(f.dir, "rollout", host+".log")); err != nil || strings.Contains(string(left), "auditfleet-token") {
		t.Errorf("%v: a token in %s", err, left)
	}
}

// newFleet starts the collector. A host's folders are hosts/NAME; its systemctl has the forwarder ship a sample log as the configuration says.
func newFleet(t *testing.T) *fleet {
	t.Helper()
	bins := binaries(t)
	f := &fleet{dir: t.TempDir()}
	ca, tls := filepath.Join(f.dir, "ca"), filepath.Join(f.dir, "tls")
	for _, args := range [][]string{{"init", "--dir", ca}, {"issue", "localhost", "--ip", "127.0.0.1", "--dir", ca, "--out", tls}} {
		if out, err := f.run(nil, append([]string{bins.Collector, "ca"}, args...)...); err != nil {
			t.Fatal(out, err)
		}
	}
	listen := port(t)
	page, err := os.ReadFile(need.Source(t, "docs/fleet.md"))
	if err != nil {
		t.Fatal(err)
	}
	config := regexp.MustCompile("(?s)```ini\n(.*?)```").FindStringSubmatch(string(page))
	if config == nil {
		t.Fatal("docs/fleet.md has no configuration of the collector")
	}
	f.write(t, map[string]string{
		"collector.conf": strings.NewReplacer(":61", fmt.Sprintf("127.0.0.1:%d", listen), "/etc/auditfleet/tls", tls, "/var/lib/auditfleet/ca", ca,
			"collector.example.com", "localhost").Replace(config[1]),
		"auditfleet-forwarder.deb": "a package",
	})
	f.collector = startCollector(t, harness.CollectorOptions{Store: filepath.Join(f.dir, "store"), Args: []string{"--config", filepath.Join(f.dir, "collector.conf")}})

	path := filepath.Join(f.dir, "path")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"ssh": `[ "$1" != down ] || [ -e up ] || { echo "connect to host down: no route"; exit 255; }
mkdir -p hosts/$1/etc
exec env ETC=$PWD/hosts/$1/etc SPOOL=$PWD/hosts/$1/spool sh -c "$2"`,
		"collector": `exec ` + bins.Collector + ` "$@"`,
		"forwarder": `[ "$1" != doctor ] || [ ! -e "$ETC/../sick" ] || { cat "$ETC/../sick"; exit 3; }
[ "$1" != doctor ] || exit 1
exec ` + bins.Forwarder + ` "$@"`,
		"dpkg": `echo "dpkg $*"; [ ! -e "$ETC/auditd.conf" ] || exit 0
mkdir -p "$ETC/plugins.d"; printf '%s\n' "log_file = $ETC/audit.log" "plugin_dir = $ETC/plugins.d" >"$ETC/auditd.conf"; echo "# the package's" >"$ETC/forwarder.conf"`,
		"service":    `echo "service $*" | tee -a "$ETC/../asked"`,
		"journalctl": `:`,
		"sudo":       `shift; [ ! -e "$ETC/../asks" ] || { echo "sudo: a password is required"; exit 1; }; exec "$@"`,
		"systemctl": `echo "systemctl $*" | tee -a "$ETC/../asked"; [ "$1" = restart ] || exit 0
[ ! -e "$ETC/../broken" ] || exit 1
exec ` + bins.Forwarder + ` --options "$ETC/forwarder.conf" --source ` + need.Source(t, "integration/cmd/firstlight/testdata/sample.log"),
	} {
		if err := need.Program(filepath.Join(path, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	f.env = []string{"PATH=" + path + ":" + os.Getenv("PATH"), fmt.Sprintf("COLLECTOR=localhost:%d", listen), "CA=" + ca, "SSH=ssh"}
	return f
}

// TestRollout puts the forwarder on three hosts by deploy/fleet/rollout.sh, one of which can't be reached at first; ssh is a program that gives each its own folders.
func TestRollout(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	// As a list from another system has it, and with a host twice.
	f.write(t, map[string]string{"hosts.txt": "web1 # the first\r\ndb1\r\ndown\r\nweb1"})
	said, err := f.rollout(t, "hosts.txt")
	if err == nil || !strings.Contains(said, "down: FAILED: connect to host down: no route\n") || !strings.HasSuffix(said, "2 of 3 hosts are done\n") {
		t.Fatalf("%v\n%s\n%s", err, said, logsOf(f.dir))
	}
	// It can be reached now, but a connection was cut off while it enrolled, and its forwarder does not start: it has its auditd back.
	if err := os.MkdirAll(filepath.Join(f.dir, "hosts/down/etc/tls"), 0o700); err != nil {
		t.Fatal(err)
	}
	f.write(t, map[string]string{"up": "", "hosts/down/broken": "", "hosts/down/etc/tls/down.key": ""})
	said, err = f.rollout(t, "hosts.txt")
	if err == nil || said != "down: FAILED: the forwarder does not start; auditd is as it was\n2 of 3 hosts are done\n" || !strings.Contains(logsOf(f.dir), "systemctl start auditd.service\n") {
		t.Fatalf("%v\n%s\n%s", err, said, logsOf(f.dir))
	}
	if err := os.Remove(filepath.Join(f.dir, "hosts/down/broken")); err != nil {
		t.Fatal(err)
	}
	said, err = f.rollout(t, "hosts.txt")
	if err != nil || said != "down: done\n3 of 3 hosts are done\n" {
		t.Fatalf("%v\n%s\n%s", err, said, logsOf(f.dir))
	}
	for _, host := range []string{"web1", "db1", "down"} {
		f.has(t, host, "# the package's\n")
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
