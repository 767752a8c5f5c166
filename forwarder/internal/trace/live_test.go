package trace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel/kerneltest"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
)

// quietKernel is the real kernel without rules, and what a trace must leave as it is:
// whether auditing is on, and who is registered. Auditing is off, whatever it was before
// (journald and many an administrator have it on), unless a daemon is registered, which
// is not disturbed. kerneltest puts it back.
func quietKernel(t *testing.T) (*kernel.Conn, before) {
	t.Helper()
	conn, was := kerneltest.Beside(t)
	list, err := conn.Rules()
	if err != nil {
		t.Fatal(err)
	}
	need.NoRules(t, len(list))
	if was.PID == 0 {
		was.Enabled = 0
		if err := conn.Set(kernel.Status{Mask: kernel.MaskEnabled}); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		list, err := conn.Rules()
		if err != nil || len(list) != 0 {
			t.Errorf("%d rules left, %v", len(list), err)
		}
		for _, b := range list {
			if err := conn.DeleteRule(b); err != nil {
				t.Error(err)
			}
		}
	})
	return conn, before{enabled: was.Enabled, pid: was.PID}
}

// before is the kernel's audit as a trace found it.
type before struct{ enabled, pid uint32 }

// same says whether the kernel's audit is as it was.
func (b before) same(conn *kernel.Conn) bool {
	now, err := conn.Status()
	return err == nil && now.Enabled == b.enabled && now.PID == b.pid
}

// TestLiveRules: while the program runs the kernel has the rules that stock
// autrace gives it, and none afterwards.
func TestLiveRules(t *testing.T) {
	conn, _ := quietKernel(t)
	autrace, auditctl := need.Stock(t, "autrace"), need.Stock(t, "auditctl")
	pids := regexp.MustCompile(`(p?pid|-p)([= ])\d+`)
	for _, resource := range []bool{false, true} {
		args := []string{"/bin/sh", "-c", auditctl + " -l; kill -9 $$"}
		flags := []string{}
		if resource {
			flags = []string{"-r"}
		}
		want, err := exec.Command(autrace, append(flags, args...)...).Output()
		if err != nil {
			t.Fatal(err)
		}
		stock, _, ok := strings.Cut(string(want), "Cleaning up...\n")
		if !ok {
			t.Fatalf("%s", want)
		}
		var got bytes.Buffer
		if _, err := Run(context.Background(), Config{Conn: conn, Path: args[0], Args: args, Resource: resource, Stdout: &got}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(pids.ReplaceAllString(stock, "$1${2}N"), pids.ReplaceAllString(got.String(), "$1${2}N")); diff != "" || !strings.Contains(stock, "ppid=") {
			t.Errorf("autrace (-) and ours (+): %s", diff)
		}
	}
}

// callsOf counts system calls by name in what strace -f wrote.
func callsOf(t *testing.T, file string) map[string]int {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)^\d+ +(?:<\.\.\. )?([a-z0-9_]+)(\(| resumed)(.*)$`).FindAllStringSubmatch(string(data), -1) {
		if !strings.HasSuffix(m[3], "<unfinished ...>") {
			calls[m[1]]++
		}
	}
	return calls
}

// TestLiveSummary: the same program under strace makes the same system calls as
// we count, children of children included.
func TestLiveSummary(t *testing.T) {
	conn, was := quietKernel(t)
	strace := need.Stock(t, "strace")
	args := []string{"/bin/sh", "-c", `/bin/cat /nonexistent; (/bin/sh -c "/bin/cat /etc/hostname; :"; :) ; :`}
	out := filepath.Join(t.TempDir(), "strace")
	cmd := exec.Command(strace, append([]string{"-f", "-o", out}, args...)...)
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	want := callsOf(t, out)
	var s Summary
	events := 0
	result, err := Run(context.Background(), Config{Conn: conn, Path: args[0], Args: args, Events: func(ev *event.Event) {
		events++
		s.Add(ev)
	}})
	if err != nil || result.Session == nil {
		t.Fatal(result, err)
	}
	for cause, n := range result.Lost {
		if n != 0 {
			t.Errorf("%d lost by %s", n, cause)
		}
	}
	got := map[string]int{}
	names := map[string]string{"pread": "pread64", "pwrite": "pwrite64"} // libaudit's and strace's
	for name, n := range s.calls {
		if other, ok := names[name]; ok {
			name = other
		}
		got[name] = int(n.calls)
	}
	// A wait is repeated, or not, as the processes happen to run; where memory lies
	// decides about brk; strace does not show what a program resumes.
	for _, racy := range []string{"wait4", "rt_sigreturn", "brk", "restart_syscall", "rt_sigprocmask", "futex"} {
		delete(got, racy)
		delete(want, racy)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("strace (-) and ours (+): %s", diff)
	}
	if opened := s.calls["openat"]; want["execve"] != 4 || opened == nil || opened.errors == 0 || s.files["/nonexistent"] == nil || s.files["/etc/hostname"] == nil {
		t.Errorf("%v %v", want, s.files)
	}
	t.Logf("%d events", events)
	if !was.same(conn) {
		now, err := conn.Status()
		t.Errorf("%+v, %v; it was %+v", now, err, was)
	}
}

// TestLiveBeside: where a daemon has the kernel's records, or audit is on, the
// trace reads beside it, and leaves audit on.
func TestLiveBeside(t *testing.T) {
	conn, was := quietKernel(t)
	if was.pid != 0 {
		need.Missing(t, fmt.Sprintf("pid %d is the registered audit daemon: this test is one itself", was.pid))
	}
	l, err := kernel.Open(kernel.Config{QueueBytes: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	var s Summary
	result, err := Run(context.Background(), Config{Conn: conn, Path: "/bin/true", Args: []string{"true"}, Events: s.Add})
	if err != nil || !result.Enabled || s.calls["execve"] == nil || s.calls["exit_group"] == nil {
		t.Errorf("%+v, %v, %v", result, err, s.calls)
	}
	if now, err := conn.Status(); err != nil || now.Enabled != 1 || now.PID != uint32(os.Getpid()) {
		t.Errorf("%+v, %v", now, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

const tracerArg = "trace-a-sleep"

// tracer is a process that traces a sleep, for tests that end it.
func tracer() int {
	conn, err := kernel.Dial()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	result, err := Run(context.Background(), Config{
		Conn: conn, Path: "/bin/sleep", Args: []string{"sleep", "60"}, Stdout: os.Stdout, Stderr: os.Stderr,
		Events:  func(*event.Event) {},
		Started: func(pid int) { fmt.Println(pid) },
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if result.Signal == nil {
		return 2
	}
	return 0
}

// TestLiveKilled: however the tracer ends, no rule stays, and audit is as it was.
func TestLiveKilled(t *testing.T) {
	conn, was := quietKernel(t)
	for _, sig := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGKILL} {
		cmd := exec.Command("/proc/self/exe", tracerArg)
		var errOut bytes.Buffer
		cmd.Stderr = &errOut
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var pid int
		if _, err := fmt.Fscan(stdout, &pid); err != nil {
			t.Fatal(err, errOut.String())
		}
		wait(t, "audit to be switched on", func() bool {
			s, err := conn.Status()
			return err == nil && s.Enabled == 1
		})
		wait(t, "the program to run", func() bool {
			b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
			return err == nil && string(b) == "sleep\n"
		})
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if sig == unix.SIGKILL {
			wait(t, "the tracer to be gone", func() bool {
				b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
				return err == nil && bytes.Contains(b, []byte(") Z "))
			})
			unix.Kill(pid, unix.SIGKILL) // the sleep, which runs on without its tracer
		}
		if err := cmd.Wait(); err != nil && sig != unix.SIGKILL {
			t.Errorf("%v: %v: %s", sig, err, errOut.String())
		}
		wait(t, "the rules to go and audit to be as it was", func() bool {
			list, err := conn.Rules()
			return err == nil && len(list) == 0 && was.same(conn)
		})
		if err := unix.Kill(pid, 0); err == nil && sig != unix.SIGKILL {
			t.Errorf("%v: the program still runs", sig)
		}
	}
}

var wait = need.Wait

// TestLiveRuleRefused: a rule that is there already ends the trace before it
// begins.
func TestLiveRuleRefused(t *testing.T) {
	conn, _ := quietKernel(t)
	if _, err := Run(context.Background(), Config{Conn: conn, Path: "/bin/true", Args: []string{"true"}, Started: func(pid int) {
		list := ruleSet(pid, nil, false, false)
		slices.Reverse(list)
		if err := load(conn, list); !errors.Is(err, unix.EEXIST) {
			t.Errorf("the same rule again: %v", err)
		}
	}}); err != nil {
		t.Fatal(err)
	}
}
