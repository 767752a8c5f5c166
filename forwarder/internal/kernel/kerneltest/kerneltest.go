// Package kerneltest helps tests that use the real kernel's audit: it holds the
// machine-wide lock, puts the settings and rules back, and makes audited events
// under a rule that no other program matches. Only tests of the forwarder's
// packages may import it.
package kerneltest

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/rules"
)

// prepend is AUDIT_FILTER_PREPEND: of the request (-A), not of the rule it loads.
const prepend = 0x10

const childEnv = "AUDITFLEET_TEST_GETPPID"

// Child makes the process a child of Workload.Run if it was started as one.
// TestMain calls it first.
func Child() {
	n, err := strconv.Atoi(os.Getenv(childEnv))
	if err != nil {
		return
	}
	for range n {
		unix.Getppid()
	}
	os.Exit(0)
}

// Dial is Beside for tests that register themselves or change settings: it skips where
// an audit daemon is registered.
func Dial(t testing.TB) *kernel.Conn {
	t.Helper()
	c, was := Beside(t)
	// The kernel goes on naming a daemon that was killed until it has a record for it.
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", was.PID)); was.PID != 0 && err == nil {
		need.Missing(t, fmt.Sprintf("pid %d is the registered audit daemon: it is not disturbed", was.PID))
	}
	return c
}

// Beside skips without kernel audit, takes the machine-wide lock and returns a
// control connection and the settings found. When the test ends, whatever happened, the
// settings are as they were and rules the test added are gone.
func Beside(t testing.TB) (*kernel.Conn, kernel.Status) {
	t.Helper()
	need.Kernel(t)
	c, err := kernel.Dial()
	if err != nil {
		t.Fatal(err)
	}
	was, err := c.Status()
	if err != nil {
		t.Fatal(err)
	}
	if was.Enabled == 2 {
		need.Missing(t, "the audit configuration is locked until reboot")
	}
	t.Cleanup(func() {
		defer func() {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}()
		now, err := c.Status()
		if err != nil {
			t.Error(err)
			return
		}
		if now.PID == uint32(os.Getpid()) {
			t.Error("the registration was not handed back")
			if err := c.Set(kernel.Status{Mask: kernel.MaskPID}); err != nil {
				t.Error(err)
			}
		}
		back := was
		back.Mask = kernel.MaskEnabled | kernel.MaskFailure | kernel.MaskRateLimit | kernel.MaskBacklogLimit | kernel.MaskBacklogWaitTime
		if err := c.Set(back); err != nil {
			t.Error(err)
		}
	})
	return c, was
}

// Workload is a program of the test's own whose getppid calls are audited.
type Workload struct {
	exe string
	Key string
}

// Getppid loads a rule for getppid calls of a copy of this test's program.
func Getppid(t testing.TB, c *kernel.Conn) *Workload {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w := &Workload{exe: filepath.Join(t.TempDir(), "getppid"), Key: "af-test-" + strconv.Itoa(os.Getpid())}
	if err := copyFile(w.exe, self); err != nil {
		t.Fatal(err)
	}
	AddRule(t, c, fmt.Sprintf("-a always,exit -F arch=b64 -S getppid -F exe=%s -k %s", w.exe, w.Key))
	return w
}

// AddRule loads a rule until the test ends.
func AddRule(t testing.TB, c *kernel.Conn, line string) {
	t.Helper()
	cmd, err := rules.ParseArgs(rules.Args(rules.SplitLine(line)), rules.SystemEnv())
	if err != nil {
		t.Fatal(err)
	}
	if len(cmd.Ops) != 1 || cmd.Ops[0].Kind != rules.OpAdd {
		t.Fatalf("%s: is not one rule", line)
	}
	raw, err := cmd.Ops[0].Rule.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.AddRule(raw); err != nil {
		t.Fatal(err)
	}
	binary.NativeEndian.PutUint32(raw, binary.NativeEndian.Uint32(raw)&^prepend)
	t.Cleanup(func() {
		if err := c.DeleteRule(raw); err != nil {
			t.Error(err)
		}
	})
}

// Exe is the program's path.
func (w *Workload) Exe() string { return w.exe }

// Run makes n events: SYSCALL, PROCTITLE and EOE each.
func (w *Workload) Run(t testing.TB, n int) {
	t.Helper()
	cmd := exec.Command(w.exe)
	cmd.Env = append(os.Environ(), childEnv+"="+strconv.Itoa(n))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o700)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}
