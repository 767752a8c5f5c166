package trace

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel/fakekernel"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/event/eventtest"
	"github.com/auditfleet/auditfleet/pkg/rules"
)

func TestMain(m *testing.M) {
	if code, ok := Helper(os.Args); ok {
		os.Exit(code)
	}
	if len(os.Args) == 2 && os.Args[1] == tracerArg {
		os.Exit(tracer())
	}
	if len(os.Args) == 2 && os.Args[1] == stopperArg {
		os.Exit(stopper())
	}
	goleak.VerifyTestMain(m)
}

func text2(r *rules.Rule) string { return r.Text(rules.SystemEnv(), rules.TextOptions{}) }

// loadedRules lists a fake kernel's rules.
func loadedRules(t *testing.T, k *fakekernel.Kernel) []string {
	t.Helper()
	var out []string
	for _, b := range k.Rules() {
		r, err := rules.Unmarshal(b)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, text2(r))
	}
	return out
}

func marker(t *testing.T) (file string, args []string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "ran")
	return file, []string{"sh", "-c", "echo x > " + file}
}

func TestRun(t *testing.T) {
	k := fakekernel.New()
	conn := k.Conn(1)
	defer conn.Close()
	file, args := marker(t)
	var during []string
	var out bytes.Buffer
	result, err := Run(context.Background(), Config{
		Conn: conn, Path: "/bin/sh", Args: args, Stdout: &out, Stderr: &out,
		Started: func(pid int) {
			if _, err := os.Stat(file); err == nil {
				t.Error("the program ran before its rules were there")
			}
			for _, r := range loadedRules(t, k) {
				during = append(during, strings.ReplaceAll(r, strconv.Itoa(pid), "PID"))
			}
		},
	})
	if err != nil || !result.State.Success() || result.Enabled || result.Signal != nil {
		t.Fatal(result, err)
	}
	if diff := cmp.Diff([]string{"-a always,exit -S all -F pid=PID", "-a always,exit -S all -F ppid=PID"}, during); diff != "" {
		t.Error(diff)
	}
	if got := loadedRules(t, k); got != nil {
		t.Errorf("left: %v", got)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("%v: %s", err, out.String())
	}
}

// TestRunRefused: the program does not run, and no rule stays, when the rules
// can't be loaded.
func TestRunRefused(t *testing.T) {
	rule, err := ruleSet(1, nil, false, false)[0].Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		prep func(k *fakekernel.Kernel, conn *kernel.Conn)
		want error
		left int
	}{
		{"rules are loaded", func(_ *fakekernel.Kernel, conn *kernel.Conn) { conn.AddRule(rule) }, ErrRulesLoaded, 1},
		{"locked", func(k *fakekernel.Kernel, _ *kernel.Conn) {
			k.SetStatus(func(s *kernel.Status) { s.Enabled = 2 })
		}, ErrLocked, 0},
		{"not allowed", func(k *fakekernel.Kernel, _ *kernel.Conn) { k.Fail(kernel.MsgAddRule, unix.EPERM) }, unix.EPERM, 0},
		{"not the second", func(k *fakekernel.Kernel, _ *kernel.Conn) {
			k.Fail(kernel.MsgAddRule, nil)
			k.Fail(kernel.MsgAddRule, unix.ENOMEM)
		}, unix.ENOMEM, 0},
		{"no status", func(k *fakekernel.Kernel, _ *kernel.Conn) { k.Fail(kernel.MsgGet, unix.EPERM) }, unix.EPERM, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := fakekernel.New()
			conn := k.Conn(1)
			defer conn.Close()
			test.prep(k, conn)
			file, args := marker(t)
			if _, err := Run(context.Background(), Config{Conn: conn, Path: "/bin/sh", Args: args}); !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
			if _, err := os.Stat(file); err == nil {
				t.Error("the program ran")
			}
			if got := len(k.Rules()); got != test.left {
				t.Errorf("%d rules left, want %d", got, test.left)
			}
		})
	}
}

// TestAuditIsOnBeforeTheChildIsMade: on a kernel whose auditing was never on, a process
// made before it is switched on has nothing that its records could be kept in.
func TestAuditIsOnBeforeTheChildIsMade(t *testing.T) {
	k := fakekernel.New()
	conn := k.Conn(1)
	defer conn.Close()
	enabling, told := 0, false
	k.OnRequest(func(typ uint16) {
		if typ != kernel.MsgSet {
			return
		}
		enabling++
		if enabling == 2 && slices.Contains(childNames(t), childName) { // the first registers
			t.Error("the child was there when audit was switched on")
		}
	})
	_, args := marker(t)
	result, err := Run(context.Background(), Config{
		Conn: conn, Path: "/bin/sh", Args: args, Events: func(*event.Event) {}, Enabled: func() { told = true },
		Started: func(int) {
			if k.Status().Enabled != 1 || !slices.Contains(childNames(t), childName) {
				t.Errorf("%+v, children %q", k.Status(), childNames(t))
			}
		},
		openKernel: func(c kernel.Config) (*kernel.Listener, error) {
			c.Socket, c.Control, c.PID = k.Socket(2, 1<<20, false), k.Conn(2), 2
			return kernel.Open(c)
		},
	})
	if err != nil || result.Enabled || !told || k.Status().Enabled != 0 || k.Status().PID != 0 {
		t.Errorf("%+v, %v, told %v, %+v", result, err, told, k.Status())
	}
}

// childNames lists by what names our children were called.
func childNames(t *testing.T) []string {
	t.Helper()
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, list := range lists {
		b, _ := os.ReadFile(list) // a thread may have ended
		for _, pid := range strings.Fields(string(b)) {
			line, _ := os.ReadFile("/proc/" + pid + "/cmdline") // so may a child
			name, _, _ := strings.Cut(string(line), "\x00")
			names = append(names, name)
		}
	}
	return names
}

func TestRunForce(t *testing.T) {
	k := fakekernel.New()
	conn := k.Conn(1)
	defer conn.Close()
	other, err := ruleSet(1, nil, true, false)[0].Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.AddRule(other); err != nil {
		t.Fatal(err)
	}
	_, args := marker(t)
	order := ""
	_, err = Run(context.Background(), Config{Conn: conn, Path: "/bin/sh", Args: args, Force: true, Started: func(int) {
		for _, r := range loadedRules(t, k) {
			order += strings.Fields(r)[5][:3]
		}
	}})
	if err != nil || order != "pidppipid" {
		t.Errorf("%q, %v", order, err)
	}
	if got := k.Rules(); len(got) != 1 || !bytes.Equal(got[0], other) {
		t.Errorf("%d rules left", len(got))
	}
}

// TestRunEnds: a program that is cut short, by the context or by itself, leaves no
// rule.
func TestRunEnds(t *testing.T) {
	k := fakekernel.New()
	conn := k.Conn(1)
	defer conn.Close()
	for _, script := range []string{"kill -9 $$", "kill -SEGV $$", "exit 3"} {
		result, err := Run(context.Background(), Config{Conn: conn, Path: "/bin/sh", Args: []string{"sh", "-c", script}})
		if err != nil || result.State.Success() {
			t.Errorf("%s: %v, %v", script, result, err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if result, err := Run(ctx, Config{Conn: conn, Path: "/bin/sleep", Args: []string{"sleep", "60"}}); err != nil || result.State.Success() {
		t.Error(result, err)
	}
	var out bytes.Buffer
	if result, err := Run(context.Background(), Config{Conn: conn, Path: "/etc/hostname", Args: []string{"x"}, Stderr: &out}); err != nil || result.State.Success() || !strings.HasPrefix(out.String(), "Failed to exec /etc/hostname: ") {
		t.Error(result, err, out.String())
	}
	if len(k.Rules()) != 0 {
		t.Error("rules left")
	}
}

// TestRunStopped: a program that is stopped hears the signal that ends the trace.
func TestRunStopped(t *testing.T) {
	k := fakekernel.New()
	conn := k.Conn(1)
	defer conn.Close()
	state := func(pid int) string {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		_, rest, _ := strings.Cut(string(b), ") ")
		return rest[:min(1, len(rest))]
	}
	pids := make(chan int, 1)
	signalled := make(chan struct{})
	go func() {
		defer close(signalled)
		pid := <-pids
		for end := time.Now().Add(time.Minute); state(pid) != "T" && time.Now().Before(end); time.Sleep(time.Millisecond) {
		}
		_ = unix.Kill(os.Getpid(), unix.SIGTERM)
	}()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	result, err := Run(ctx, Config{Conn: conn, Path: "/bin/sh", Args: []string{"sh", "-c", "kill -STOP $$"}, Started: func(pid int) { pids <- pid }})
	<-signalled
	if err != nil {
		t.Fatal(err)
	}
	if status, ok := result.State.Sys().(syscall.WaitStatus); ctx.Err() != nil || !ok || status.Signal() != syscall.SIGTERM || len(k.Rules()) != 0 {
		t.Errorf("%v, %v, %d rules left", result.State, ctx.Err(), len(k.Rules()))
	}
}

const stopperArg = "trace-one-that-stops"

// stopper is a process that traces a program which stops itself, on no real kernel.
func stopper() int {
	conn := fakekernel.New().Conn(1)
	defer conn.Close()
	result, err := Run(context.Background(), Config{Conn: conn, Path: "/bin/sh", Args: []string{"sh", "-c", "kill -STOP $$; exit 7"}, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return result.State.ExitCode()
}

// TestRunStopsAlong: a shell that traces a program which stops itself has its terminal
// back, and fg lets the program go on.
func TestRunStopsAlong(t *testing.T) {
	bash := need.Tool(t, "bash")
	tty, end := need.Terminal(t, 80)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bash, "--norc", "-mc", `"$0" `+stopperArg+`; echo; echo it is back; fg %1; code=$?; echo; echo it ended with $code`, os.Args[0])
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	err := cmd.Run()
	text := end()
	if err != nil || !strings.Contains(text, "\nit is back\n") || !strings.Contains(text, "\nit ended with 7\n") {
		t.Errorf("%v: %s", err, text)
	}
}

// TestGuard: the guard does the tracer's duties when the tracer is gone, and
// nothing when it said that all is done or never began.
func TestGuard(t *testing.T) {
	d, err := deleting(ruleSet(7, nil, false, false))
	if err != nil {
		t.Fatal(err)
	}
	line, err := json.Marshal(duties{Rules: d, Enable: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		in   string
		left int
		code int
	}{
		{"", 2, 0},
		{string(line[:20]), 2, 0},
		{string(line) + "\ndone\n", 2, 0},
		{string(line) + "\n", 0, 0},
		{string(line) + "\ndon", 0, 0},
		{`{"enable":true}` + "\n" + string(line) + "\n", 0, 0}, // what it was told last
		{"{}}\n", 2, exitHelper},
	} {
		k := fakekernel.New()
		k.SetStatus(func(s *kernel.Status) { s.Enabled = 1 })
		conn := k.Conn(1)
		if err := load(conn, ruleSet(7, nil, false, false)); err != nil {
			t.Fatal(err)
		}
		conn.Close()
		code := guard(strings.NewReader(test.in), func() (*kernel.Conn, error) { return k.Conn(2), nil })
		if got := len(k.Rules()); got != test.left || code != test.code || k.Status().Enabled != uint32(test.left/2) {
			t.Errorf("%.30q: %d rules left, exit code %d, enabled %d", test.in, got, code, k.Status().Enabled)
		}
	}
}

func TestHelperArgs(t *testing.T) {
	for _, args := range [][]string{nil, {"forwarder"}, {"autrace", childName}} {
		if _, ok := Helper(args); ok {
			t.Errorf("%q is no helper", args)
		}
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{childName, "x"}
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "started by trace only") {
		t.Errorf("%s, %v", out, err)
	}
}

func TestSummary(t *testing.T) {
	log := `type=SYSCALL msg=audit(1.000:1): arch=c000003e syscall=59 success=yes exit=0 items=2 ppid=1 pid=10 ses=3 comm="cat" exe="/bin/cat" key=(null)
type=CWD msg=audit(1.000:1): cwd="/tmp"
type=PATH msg=audit(1.000:1): item=0 name="/bin/cat" inode=1 nametype=NORMAL
type=PATH msg=audit(1.000:1): item=1 name="/bin/cat" inode=1 nametype=NORMAL
type=PROCTITLE msg=audit(1.000:1): proctitle="cat"
type=SYSCALL msg=audit(1.000:2): arch=c000003e syscall=257 success=no exit=-2 items=1 ppid=1 pid=10 ses=3 comm="cat" exe="/bin/cat" key=(null)
type=CWD msg=audit(1.000:2): cwd="/tmp"
type=PATH msg=audit(1.000:2): item=0 name=612062 nametype=UNKNOWN
type=PATH msg=audit(1.000:2): item=1 name="sub/" nametype=PARENT
type=PROCTITLE msg=audit(1.000:2): proctitle="cat"
type=SYSCALL msg=audit(1.000:3): arch=c000003e syscall=257 success=yes exit=3 ppid=1 pid=10 ses=3 comm="cat" exe="/bin/cat" key=(null)
type=PATH msg=audit(1.000:3): item=0 name="/etc/x" nametype=NORMAL
type=PROCTITLE msg=audit(1.000:3): proctitle="cat"
type=SYSCALL msg=audit(1.000:4): arch=c000003e syscall=61 success=no exit=-512 ppid=1 pid=11 ses=3 comm=610A62 exe="/bin/sh" key=(null)
type=PROCTITLE msg=audit(1.000:4): proctitle="cat"
type=SYSCALL msg=audit(1.000:5): arch=40000003 syscall=9999 ppid=1 pid=11 ses=3 comm="sh"
type=PROCTITLE msg=audit(1.000:5): proctitle="cat"
type=LOGIN msg=audit(1.000:6): pid=10 uid=0 old-auid=0 auid=0 tty=(none) old-ses=1 ses=3 res=1
`
	var s Summary
	for _, ev := range eventtest.Parse([]byte(log)) {
		s.Add(ev)
	}
	var out strings.Builder
	if _, err := s.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	want := `  % calls  calls  errors  syscall
  -------  -----  ------  -------
    40.00      2       1  openat
    20.00      1       1  wait4
    20.00      1          9999
    20.00      1          execve
  -------  -----  ------  -------
   100.00      5       2  total

   errors                 error
        1                 ENOENT openat
        1                 ERESTARTSYS wait4

           calls  errors  file
               1       1  /tmp/a b
               1          /bin/cat
               1          /etc/x

           calls  errors  process
               3       1  10 cat
               1       1  11 a?b
               1          11 sh
`
	got := strings.Split(out.String(), "\n")
	for i := range got {
		got[i] = strings.Join(strings.Fields(got[i]), " ")
	}
	wantLines := strings.Split(want, "\n")
	for i := range wantLines {
		wantLines[i] = strings.Join(strings.Fields(wantLines[i]), " ")
	}
	if diff := cmp.Diff(wantLines, got); diff != "" {
		t.Errorf("%s\n%s", diff, out.String())
	}
	var empty Summary
	out.Reset()
	if _, err := empty.WriteTo(&out); err != nil || !strings.Contains(out.String(), "total") {
		t.Error(out.String(), err)
	}
}
