package cli

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel/kerneltest"
	"github.com/auditfleet/auditfleet/internal/need"
)

// session is what a daemon left of a run: the records of its own and its state
// report.
type session struct {
	records []string
	state   []string // the names of its lines
	plugin  string   // the signals a plugin got
}

// waitLong waits as long as a machine may take on which everything is tested at once.
func waitLong(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within two minutes: %s", what)
		}
	}
}

// runSession starts an audit daemon, stock or ours, and sends it every signal.
func runSession(t *testing.T, ctl *kernel.Conn, program string) session {
	t.Helper()
	dir := t.TempDir()
	keyFile(t, dir, "log_format = ENRICHED ; num_logs = 3 ; max_log_file = 8 ; max_log_file_action = ROTATE ; name_format = USER ; name = web1 ; flush = NONE", "")
	write := func(name string, mode os.FileMode, text string) {
		if err := os.WriteFile(dir+name, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	// Not a shell: the stock daemon starts plugins with signals ignored, which a
	// shell does not trap.
	write("/plugin", 0o755, fmt.Sprintf(`#!/usr/bin/perl
sub note { open(my $f, '>>', "%[1]s/signals"); print $f "$_[0]\n"; close $f }
$SIG{HUP} = sub { note("HUP") }; $SIG{TERM} = sub { note("TERM") };
open(my $f, '>', "%[1]s/up"); close $f;
while (1) { my $n = sysread(STDIN, my $b, 65536); last if defined($n) && $n == 0 }
`, dir))
	write("/plugins/p.conf", 0o640, fmt.Sprintf("active = yes\npath = %s/plugin\ntype = always\n", dir))
	cmd := exec.Command("unshare", "-m", "sh", "-c", fmt.Sprintf("mount --bind %s/run /run && exec %s -n -c %s/conf", dir, program, dir))
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	defer func() {
		if !ended {
			_ = cmd.Process.Signal(unix.SIGTERM) // the test has failed
			_ = cmd.Wait()                       // likewise
			t.Log(said.String())
		}
	}()
	exists := func(name string) func() bool {
		return func() bool { _, err := os.Stat(dir + name); return err == nil }
	}
	waitLong(t, "the daemon is registered", func() bool {
		s, err := ctl.Status()
		return err == nil && s.PID == uint32(cmd.Process.Pid)
	})
	waitLong(t, "its plugin is up", exists("/up"))
	records := func() string {
		older, _ := os.ReadFile(dir + "/log/audit.log.1")
		newer, _ := os.ReadFile(dir + "/log/audit.log")
		return string(older) + string(newer)
	}
	// The sender lives until the daemon has said what it did: its session is read from /proc.
	kill := func(signal string, until func() bool) {
		sender := exec.Command("sh", "-c", fmt.Sprintf("kill -%s %d && read done", signal, cmd.Process.Pid))
		hold, err := sender.StdinPipe()
		if err == nil {
			err = sender.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		waitLong(t, "the effect of SIG"+signal, until)
		if _, err := hold.Write([]byte("\n")); err != nil {
			t.Fatal(err)
		}
		if err := sender.Wait(); err != nil {
			t.Fatalf("kill -%s: %v", signal, err)
		}
	}
	recorded := func(what string) func() bool {
		return func() bool { return strings.Contains(records(), what) }
	}
	kill("USR1", recorded("DAEMON_ROTATE"))
	kill("USR2", recorded("DAEMON_RESUME"))
	kill("HUP", func() bool { return recorded("DAEMON_CONFIG")() && exists("/signals")() })
	kill("CONT", func() bool { // stock's last line, and one that is last of ours
		state, _ := os.ReadFile(dir + "/run/auditd.state")
		return bytes.Contains(state, []byte("plugin queueing suspended = ")) && bytes.Contains(state, []byte("listening for network connections = "))
	})
	state, err := os.ReadFile(dir + "/run/auditd.state")
	if err != nil {
		t.Fatal(err)
	}
	kill("TERM", recorded("DAEMON_END"))
	err = cmd.Wait()
	ended = true
	if err != nil {
		t.Errorf("%s: %v\n%s", program, err, said.String())
	}
	if exists("/run/auditd.state")() {
		t.Errorf("%s: the state report is still there", program)
	}
	var s session
	mask := regexp.MustCompile(`\b(ver|kernel|pid)=\S+`)
	head := regexp.MustCompile(`msg=audit\(\d{10}\.\d{3}:\d+\)`)
	for l := range strings.Lines(records()) {
		// What this machine's kernel lost before the test is said once a boot, by ours only.
		if strings.Contains(l, "type=DAEMON_") && !strings.Contains(l, " cause=before-start ") {
			l = mask.ReplaceAllString(head.ReplaceAllString(l, "msg=audit"), "$1")
			s.records = append(s.records, strings.TrimSuffix(l, "\n"))
		}
	}
	for l := range strings.Lines(string(state)) {
		name := regexp.MustCompile(`( =.*| \d+ MB)\n`).ReplaceAllString(l, "")
		s.state = append(s.state, name)
	}
	signals, _ := os.ReadFile(dir + "/signals")
	s.plugin = string(signals)
	if matches, err := filepath.Glob(dir + "/log/audit.log.*"); err != nil || len(matches) != 1 {
		t.Errorf("%s: rotated files %q, %v", program, matches, err)
	}
	return s
}

// The same signals to the stock daemon and to us leave the same records, but for
// the order of what is independent, and a state report with the same lines.
func TestSignalsAsStock(t *testing.T) {
	auditd := need.Stock(t, "auditd")
	need.Tool(t, "perl")
	ctl := kerneltest.Dial(t)
	stock := runSession(t, ctl, auditd)
	time.Sleep(100 * time.Millisecond)
	bin := copySelf(t, t.TempDir(), "auditd")
	ours := runSession(t, ctl, bin)
	if diff := cmp.Diff(stock.records, ours.records); diff != "" {
		t.Error(diff)
	}
	if len(ours.records) != 5 {
		t.Errorf("%q", ours.records)
	}
	has := map[string]bool{}
	for _, l := range ours.state {
		has[l] = true
	}
	for _, l := range stock.state {
		if !has[l] {
			t.Errorf("the state report has no %q", l)
		}
	}
	if stock.plugin != "HUP\nTERM\n" && stock.plugin != "HUP\n" {
		t.Errorf("the stock daemon's plugin got %q", stock.plugin)
	}
	// Ours ends plugins by the end of their input first.
	if ours.plugin != "HUP\n" {
		t.Errorf("our plugin got %q", ours.plugin)
	}
}
