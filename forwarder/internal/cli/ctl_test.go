package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/boot"
	"github.com/auditfleet/auditfleet/forwarder/internal/boot/boottest"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel/fakekernel"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/rules"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// ctlOn runs one command line against a kernel.
func ctlOn(t *testing.T, dial func() (*kernel.Conn, error), args ...string) (out, errOut string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	c := &ctl{
		out: &o, err: &e, dial: dial, version: "v-test",
		env:     rules.Env{Arch: tables.ArchX86_64, IsDir: func(p string) bool { return p == "/etc" }},
		allowed: func() bool { return true },
	}
	code = c.run(args)
	c.close()
	return o.String(), e.String(), code
}

func fake(k *fakekernel.Kernel) func() (*kernel.Conn, error) {
	return func() (*kernel.Conn, error) { return k.Conn(77), nil }
}

// step is one command line and what is expected of it.
type step struct {
	line string
	code int
	out  string
	err  string
}

func runSteps(t *testing.T, k *fakekernel.Kernel, steps []step) {
	t.Helper()
	for _, s := range steps {
		out, errOut, code := ctlOn(t, fake(k), rules.Args(rules.SplitLine(s.line))...)
		if diff := cmp.Diff(step{s.line, s.code, strings.TrimPrefix(s.out, "\n"), strings.TrimPrefix(s.err, "\n")}, step{s.line, code, out, errOut}, cmp.AllowUnexported(step{})); diff != "" {
			t.Errorf("%s: %s", s.line, diff)
		}
	}
}

const atRest = `enabled 0
failure 1
pid 0
rate_limit 0
backlog_limit 64
lost 0
backlog 0
backlog_wait_time 15000
backlog_wait_time_actual 0
`

func TestCtlRules(t *testing.T) {
	k := fakekernel.New()
	runSteps(t, k, []step{
		{line: "-l", out: "No rules\n"},
		{line: "-a always,exit -F arch=b64 -S openat -F uid=0 -k one"},
		{line: "-w /etc -p wa -k two -k three"},
		{line: "-A never,exit -F arch=b64 -S getpid"},
		{line: "-l", out: `
-a never,exit -F arch=b64 -S getpid
-a always,exit -F arch=b64 -S openat -F uid=0 -F key=one
-w /etc -p wa -k two -k three
`},
		{line: "-l -k thr", out: "-w /etc -p wa -k two -k three\n"},
		{line: "-l -k none"},
		{line: "-l -i", out: `
-a never,exit -F arch=x86_64 -S getpid
-a always,exit -F arch=x86_64 -S openat -F uid=0 -F key=one
-w /etc -p wa -k two -k three
`},
		{line: "-w /etc -p wa -k two -k three", code: 255, err: `
Error sending add rule data request (Rule exists)
  the same rule is loaded already: -l lists the rules, -d with the same words deletes it
`},
		{line: "-d always,exit -F arch=b64 -S openat -F uid=0 -k other", code: 255, err: `
Error sending delete rule data request (No such file or directory)
  no such rule is loaded; the most alike is -a always,exit -F arch=b64 -S openat -F uid=0 -F key=one
`},
		{line: "-d always,exit -F arch=b64 -S openat -F uid=0 -k one"},
		{line: "-W /etc -p wa -k two -k three"},
		{line: "-l", out: "-a never,exit -F arch=b64 -S getpid\n"},
		{line: "-w /etc -p wa -k two"},
		{line: "-D -k two"},
		{line: "-l", out: "-a never,exit -F arch=b64 -S getpid\n"},
		{line: "-D", out: "No rules\n"},
		{line: "-d always,task", code: 255, err: `
Error sending delete rule data request (No such file or directory)
  no rules are loaded
`},
		{line: "-a task,possible", err: "Append rule - possible is deprecated\n"},
	})
	if n := len(k.Rules()); n != 0 {
		t.Errorf("%d rules are left", n)
	}
}

func TestCtlSettings(t *testing.T) {
	k := fakekernel.New()
	k.SetFeatures(kernel.Features{Version: 1, Mask: 3})
	runSteps(t, k, []step{
		{line: "-s", out: atRest + "loginuid_immutable 0 unlocked\n"},
		{line: "-s -i", out: strings.NewReplacer("enabled 0", "enabled disable", "failure 1", "failure printk").Replace(atRest) + "loginuid_immutable 0 unlocked\n"},
		{line: "-b 8192 -f 0 -r 100", out: strings.NewReplacer("failure 1", "failure 0", "rate_limit 0", "rate_limit 100", "backlog_limit 64", "backlog_limit 8192").Replace(atRest)},
		{line: "-f 1 -b 0x40 -r 0 --backlog_wait_time 30000", out: strings.Replace(atRest, "backlog_wait_time 15000", "backlog_wait_time 30000", 1)},
		{line: "--backlog_wait_time 999999", code: 255, err: `
Error sending backlog wait time request (Invalid argument)
  the kernel takes from 0 up to ten times its default of 60 seconds, counted in its clock ticks
`},
		{line: "--backlog_wait_time=15000", out: atRest},
		{line: "-e 1", out: strings.Replace(atRest, "enabled 0", "enabled 1", 1)},
		{line: "-e 0", out: atRest},
		{line: "-b 8k", out: strings.Replace(atRest, "backlog_limit 64", "backlog_limit 8", 1), err: "Warning - \"8k\" is read as 8, as auditctl does\n"},
		{line: "--loginuid-immutable"},
		{line: "-t"},
		{line: "-q /mnt,/srv"},
		{line: "-v", out: "auditctl version 3.0.9 (auditfleet v-test)\n"},
		{line: "--signal HUP", err: "Auditd is not running\n"},
		{line: "--reset-lost", err: "lost: 0\n"},
	})
	k.SetStatus(func(s *kernel.Status) { s.Lost, s.BacklogWaitTimeActual, s.BacklogLimit = 7, 5000, 64 })
	runSteps(t, k, []step{
		{line: "--reset-lost", err: "lost: 7\n"},
		{line: "--reset_backlog_wait_time_actual", err: "backlog_wait_time_actual: 5000\n"},
		{line: "-s", out: atRest + "loginuid_immutable 1 locked\n"},
	})
	if got := k.Equivalents(); len(got) != 1 || got[0] != "/mnt/srv" {
		t.Errorf("equivalents: %q", got)
	}
}

// TestCtlLocked is everything against a kernel whose configuration was locked
// with -e 2. It runs on the fake one only.
func TestCtlLocked(t *testing.T) {
	k := fakekernel.New()
	k.SetFeatures(kernel.Features{Version: 1, Mask: 3})
	path := ruleFile(t, "-w /etc -p wa\n")
	locked := strings.Replace(atRest, "enabled 0", "enabled 2", 1)
	const hint = "  the settings were locked with -e 2 and stay so until this machine boots again\n"
	const immutable = "The audit system is in immutable mode, no rule changes allowed\n" +
		"  the rules were locked with -e 2 and stay so until this machine boots again: change the rule files and reboot\n"
	steps := []step{
		{line: "-w /etc -p wa -k x"},
		{line: "-e 2", out: locked},
		{line: "-s -i", out: strings.NewReplacer("enabled 2", "enabled enabled+immutable", "failure 1", "failure printk").Replace(locked) + "loginuid_immutable 0 unlocked\n"},
		{line: "-l", out: "-w /etc -p wa -k x\n"},
		{line: "-w /bin -p x", code: 1, err: immutable},
		{line: "-W /etc -p wa -k x", code: 1, err: immutable},
		{line: "-e 0", code: 255, err: "Error sending enable request (Operation not permitted)\n" + hint},
		{line: "-e 1", code: 255, err: "Error sending enable request (Operation not permitted)\n" + hint},
		{line: "-f 0", code: 255, err: "Error sending failure mode request (Operation not permitted)\n" + hint},
		{line: "-r 5", code: 255, err: "Error sending rate limit request (Operation not permitted)\n" + hint},
		{line: "-b 5", code: 255, err: "Error sending backlog limit request (Operation not permitted)\n" + hint},
		{line: "-D", code: 255, err: "Error deleting rule (Operation not permitted)\n" + hint},
		{line: "--reset-lost", err: "lost: 0\n"},
		{line: "-R " + path, code: 1, err: immutable},
	}
	if os.Geteuid() != 0 {
		steps = steps[:len(steps)-1] // the file must be root's
	}
	runSteps(t, k, steps)
	if len(k.Rules()) != 1 {
		t.Errorf("%d rules, want the one from before", len(k.Rules()))
	}
}

func TestCtlKernelErrors(t *testing.T) {
	for _, c := range []struct {
		line string
		err  error
		want string
	}{
		{"-a always,exit -F arch=b64 -S openat -F uid=unset", unix.EINVAL, "Error sending add rule data request (Invalid argument)\n  uid can't be -1: only auid is ever unset\n"},
		{"-a always,io_uring -S openat", unix.EINVAL, "Error sending add rule data request (Invalid argument)\n  the io_uring list needs Linux 5.16 or newer\n"},
		{"-a always,exit -S all -F saddr_fam=2", unix.EINVAL, "Error sending add rule data request (Invalid argument)\n  this kernel lacks saddr_fam, which needs Linux 5.3 or newer\n"},
		{"-w /nowhere/at/all -p wa", unix.ENOENT, "Error sending add rule data request (No such file or directory)\n  /nowhere/at does not exist: the file may come later, its directory must be there when the rule is loaded\n"},
		{"-a always,exit -F dir=/nowhere -F perm=wa", unix.ENOENT, "Error sending add rule data request (No such file or directory)\n  /nowhere does not exist: a tree must be there when its rule is loaded\n"},
		{"-w /etc/passwd/x -p wa", unix.ENOTDIR, "Error sending add rule data request (Not a directory)\n  a part of /etc/passwd/x is no directory\n"},
		{"-a always,exit -S all -F uid=1", unix.EPERM, "Error sending add rule data request (Operation not permitted)\n  this needs CAP_AUDIT_CONTROL in the first user namespace: run it as root on the host, not in a container\n"},
		{"-a always,exit -S all -F uid=1", unix.ENOMEM, "Error sending add rule data request (Cannot allocate memory)\n  the kernel is out of memory\n"},
		{"-a always,exit -S all -F subj_type=a_t", unix.EINVAL, "Error sending add rule data request (Invalid argument)\n  subj_type needs a security module (SELinux, Smack, AppArmor) that knows it\n"},
		{"-a always,exit -S all -F uid=1", unix.EOPNOTSUPP, "Error sending add rule data request (Operation not supported)\n  this kernel lacks a field or an operator of this rule: take conditions out one by one to find it\n"},
	} {
		k := fakekernel.New()
		k.Fail(kernel.MsgAddRule, c.err)
		_, errOut, code := ctlOn(t, fake(k), rules.Args(rules.SplitLine(c.line))...)
		if code != 255 || errOut != c.want {
			t.Errorf("%s: %v: exit %d\n got %s\n want %s", c.line, c.err, code, errOut, c.want)
		}
	}
	k := fakekernel.New()
	k.Fail(kernel.MsgListRules, unix.ECONNREFUSED)
	if _, errOut, code := ctlOn(t, fake(k), "-l"); code != 255 || !strings.Contains(errOut, "audit=0") {
		t.Errorf("-l without audit: %d, %s", code, errOut)
	}
	dial := func() (*kernel.Conn, error) { return nil, fmt.Errorf("socket: %w", unix.EPROTONOSUPPORT) }
	if _, errOut, code := ctlOn(t, dial, "-s"); code == 0 || !strings.HasPrefix(errOut, "Cannot open netlink audit socket\n  this kernel has no audit") {
		t.Errorf("no socket: %d, %s", code, errOut)
	}
}

// TestCtlAnswers shows that answers whose lengths lie are errors in words.
func TestCtlAnswers(t *testing.T) {
	k := fakekernel.New()
	conn := k.Conn(1)
	bad := make([]byte, 1040)
	bad[8] = 65 // fields
	if err := conn.AddRule(bad); err != nil {
		t.Fatal(err)
	}
	out, errOut, code := ctlOn(t, fake(k), "-l")
	if code != 255 || out != "" || errOut != "rule 1 of the kernel: malformed audit rule: 65 fields, at most 64 go\n" {
		t.Errorf("%d, %q, %q", code, out, errOut)
	}
	// Without a key, what can't be read can still be deleted.
	if out, _, code := ctlOn(t, fake(k), "-D"); code != 0 || out != "No rules\n" {
		t.Errorf("-D: %d, %q", code, out)
	}
}

func TestCtlMessage(t *testing.T) {
	k := fakekernel.New()
	group := k.Socket(5, 1<<20, true)
	if _, errOut, code := ctlOn(t, fake(k), "-m", "hello all"); code != 0 || errOut != "" {
		t.Fatalf("%d, %s", code, errOut)
	}
	d := []kernel.Datagram{{Buf: make([]byte, 9000)}}
	if n, err := group.Recv(d); n != 1 || err != nil {
		t.Fatalf("no record: %v", err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if got := string(d[0].Buf[:d[0].N]); !strings.Contains(got, "text=hello all exe=\""+self+"\" hostname=") || !strings.Contains(got, " addr=? terminal=") || !strings.HasSuffix(got, " res=success'") {
		t.Errorf("%q", got)
	}
}

// TestCtlSignal signals a process of the test's that the kernel says is the daemon.
func TestCtlSignal(t *testing.T) {
	k := fakekernel.New()
	child := exec.Command("sleep", "600")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	k.OtherDaemon(uint32(child.Process.Pid))
	if _, errOut, code := ctlOn(t, fake(k), "--signal", "cont"); code != 0 || errOut != "" {
		t.Errorf("CONT: %d, %s", code, errOut)
	}
	if _, errOut, code := ctlOn(t, fake(k), "--signal", "stop"); code != 0 || errOut != "" {
		t.Errorf("TERM: %d, %s", code, errOut)
	}
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("the child did not end")
		child.Process.Kill()
	}
	if _, errOut, code := ctlOn(t, fake(k), "--signal", "HUP"); code != 1 || !strings.HasPrefix(errOut, "Failed sending signal to auditd (No such process)") {
		t.Errorf("a dead daemon: %d, %s", code, errOut)
	}
}

func ruleFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.rules")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCtlFile(t *testing.T) {
	need.Root(t)
	const head = "## a comment\n\n  # another\n-D\n-b 64\n-w /etc -p wa -k a\n"
	const bad = "-w /bin -p wa\n-a always,exit -S bogus\n-a possible,task\n-a task,possible\n-w /sbin -p wa\n"
	for name, c := range map[string]struct {
		text  string
		code  int
		rules int
		err   string
	}{
		"good":                  {head, 0, 1, ""},
		"stops":                 {head + bad, 1, 2, "FILE: 4 lines loaded, 1 failed, 3 skipped\n"},
		"ignore":                {"-i\n" + head + bad, 0, 3, "FILE: 6 lines loaded, 2 failed, 1 skipped\n"},
		"continue":              {"-c\n" + head + bad, 1, 3, "FILE: 6 lines loaded, 2 failed, 1 skipped\n"},
		"nested":                {"-R x\n", 1, 0, "FILE: 0 lines loaded, 1 failed, 0 skipped\n"},
		"crlf":                  {"-w /etc -p wa -k a\r\n", 0, 1, ""},
		"no newline at the end": {"-w /etc -p wa -k a", 0, 1, ""},
		"empty":                 {"", 0, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			k := fakekernel.New()
			path := ruleFile(t, c.text)
			_, errOut, code := ctlOn(t, fake(k), "-R", path)
			if code != c.code || len(k.Rules()) != c.rules {
				t.Errorf("exit %d, %d rules, want %d, %d\n%s", code, len(k.Rules()), c.code, c.rules, errOut)
			}
			if want := strings.ReplaceAll(c.err, "FILE", path); !strings.HasSuffix(errOut, want) || want == "" && errOut != "" {
				t.Errorf("got %s\nwant %s", errOut, want)
			}
			if strings.Contains(c.text, "bogus") && !strings.Contains(errOut, fmt.Sprintf("%s:%d:19: Syscall name unknown: bogus\n", path, 1+strings.Count(c.text[:strings.Index(c.text, "bogus")], "\n"))) {
				t.Errorf("the place of the mistake is missing:\n%s", errOut)
			}
		})
	}
}

func TestCtlFileRefused(t *testing.T) {
	need.Root(t)
	dir := t.TempDir()
	open := ruleFile(t, "-D\n")
	if err := os.Chmod(open, 0o602); err != nil {
		t.Fatal(err)
	}
	foreign := ruleFile(t, "-D\n")
	if err := os.Chown(foreign, 65533, 0); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		dir + "/none": "audit rules file " + dir + "/none doesn't exist\n",
		dir:           "Error - " + dir + " is not a regular file\n",
		open:          "Error - " + open + " is world writable\n  chmod o-w it, after a look at what is in it\n",
		foreign:       "Error - " + foreign + " isn't owned by root\n  chown root it, or copy it to a file of root's\n",
	} {
		k := fakekernel.New()
		_, errOut, code := ctlOn(t, fake(k), "-R", path)
		if code != 1 || errOut != want || len(k.Requests()) != 0 {
			t.Errorf("%s: exit %d, %q, want %q", path, code, errOut, want)
		}
	}
}

func TestCtlExplain(t *testing.T) {
	never := func() (*kernel.Conn, error) { return nil, errors.New("the kernel was touched") }
	explain := func(args ...string) (map[string]any, int) {
		t.Helper()
		out, errOut, code := ctlOn(t, never, args...)
		var m map[string]any
		if err := json.Unmarshal([]byte(out), &m); err != nil {
			t.Fatalf("%q: %v (%s)", out, err, errOut)
		}
		return m, code
	}
	m, code := explain("--explain", "-a", "always,exit", "-F", "arch=b64", "-S", "openat", "-k", "ü")
	want := map[string]any{
		"line": "-a always,exit -F arch=b64 -S openat -k ü", "sent": 1011.0, "flags": 4.0, "action": 2.0,
		"fields":   []any{[]any{11.0, 1073741824.0, 3221225534.0}, []any{210.0, 1073741824.0, 2.0}},
		"syscalls": []any{257.0}, "mask63": 0.0, "buf": "Ã¼", "listed": "-a always,exit -F arch=b64 -S openat -F key=ü",
	}
	if diff := cmp.Diff(want, m); diff != "" || code != 0 {
		t.Errorf("exit %d, %s", code, diff)
	}
	m, code = explain("-a", "always,exit", "-S", "bogus", "--explain")
	if code != 255 || m["error"] != "Syscall name unknown: bogus" || m["exit"] != 255.0 || m["sent"] != nil {
		t.Errorf("a refused line: exit %d, %v", code, m)
	}
	m, code = explain("--explain", "-a", "task,possible")
	if code != 0 || m["error"] != "Append rule - possible is deprecated" || m["exit"] != 0.0 {
		t.Errorf("possible: exit %d, %v", code, m)
	}
	m, code = explain("--explain", "--machine", "riscv64", "-a", "always,exit", "-F", "arch=b64", "-S", "openat")
	if code != 0 || fmt.Sprint(m["syscalls"]) != "[56]" || fmt.Sprint(m["fields"]) != "[[11 1.073741824e+09 3.221225715e+09]]" {
		t.Errorf("on another machine: exit %d, %v", code, m)
	}
	m, code = explain("--explain", "-e", "2")
	if code != 0 || m["sent"] != 1001.0 || m["payload"] != "01000000"+"02000000"+strings.Repeat("0", 72) {
		t.Errorf("-e 2: exit %d, %v", code, m)
	}
	if _, errOut, code := ctlOn(t, never, "--explain", "--machine", "pdp11", "-D"); code != 255 || !strings.Contains(errOut, `unknown architecture "pdp11"`) {
		t.Errorf("--machine pdp11: %d, %s", code, errOut)
	}
	path := ruleFile(t, "# x\n-D\n\n-a always,exit -S bogus -k x\n-w /etc/passwd\n")
	out, _, code := ctlOn(t, never, "--explain", "-R", path)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != 1 || len(lines) != 3 || !strings.Contains(lines[1], `"lineno":4,"line":"-a always,exit -S bogus -k x","error":"Syscall name unknown: bogus"`) ||
		!strings.Contains(lines[1], `"column":19`) {
		t.Errorf("exit %d, %s", code, out)
	}
}

func TestCtlNotRoot(t *testing.T) {
	var o, e bytes.Buffer
	c := &ctl{out: &o, err: &e, env: rules.Env{Arch: tables.ArchX86_64}, allowed: func() bool { return false }}
	if code := c.run([]string{"-s"}); code != 4 || !strings.HasPrefix(e.String(), "You must be root to run this program.\n") {
		t.Errorf("%d, %s", code, e.String())
	}
	if code := c.run([]string{"-h"}); code != 255 || o.String() != ctlUsage {
		t.Errorf("-h: %d", code)
	}
	o.Reset()
	if code := c.run(nil); code != 1 || o.String() != ctlUsage {
		t.Errorf("without options: %d", code)
	}
	o.Reset()
	if code := c.run([]string{"--explain", "-w", "/etc/passwd"}); code != 0 || !strings.Contains(o.String(), `"sent":1011`) {
		t.Errorf("--explain: %d, %s", code, o.String())
	}
}

// TestCtlNames: both names lead to the same applet, and its exit code comes out.
func TestCtlNames(t *testing.T) {
	for _, args := range [][]string{{"/sbin/auditctl"}, {"forwarder", "ctl"}} {
		var o, e bytes.Buffer
		code := Run(context.Background(), append(args, "--explain", "-a", "nonsense"), Stdio{Out: &o, Err: &e}, "v")
		if code != 255 || !strings.Contains(o.String(), "bad keyword nonsense") || e.Len() != 0 {
			t.Errorf("%v: %d, %s, %s", args, code, o.String(), e.String())
		}
	}
}

// TestCtlNotesEnabling: -e 1 leaves a note of when auditing was switched on, which the
// forwarder's start would not know otherwise; where it was on, there is nothing to note.
func TestCtlNotesEnabling(t *testing.T) {
	for _, enabled := range []uint32{0, 1} {
		h := boottest.New(t, "quiet")
		k := fakekernel.New()
		k.SetStatus(func(s *kernel.Status) { s.Enabled = enabled })
		var o, e bytes.Buffer
		c := &ctl{out: &o, err: &e, dial: fake(k), env: rules.Env{Arch: tables.ArchX86_64}, allowed: func() bool { return true }, notes: boot.Notes{Root: h.Root, Path: boot.DefaultNote}}
		if code := c.run([]string{"-e", "1"}); code != 0 {
			t.Fatal(code, e.String())
		}
		c.close()
		want := boot.Note{}
		if enabled == 0 {
			want = boot.Note{Enabling: boot.Switched, Since: time.Hour}
		}
		if got, err := c.notes.Read(); err != nil || got != want {
			t.Errorf("enabled %d before: %+v, %v", enabled, got, err)
		}
	}
}
