//go:build power

package powercut

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/need"
)

// TestMain runs the tests in a mount namespace of their own, so that no mount and no loop device outlives
// them, however they end.
func TestMain(m *testing.M) {
	const inside = "AUDITFLEET_POWERCUT_INSIDE"
	if os.Getuid() == 0 && os.Getenv(inside) == "" {
		unshare, err := exec.LookPath("unshare")
		if err == nil {
			args := slices.Concat([]string{"unshare", "--mount", "--propagation", "private"}, os.Args)
			err = syscall.Exec(unshare, args, append(os.Environ(), inside+"=1"))
		}
		fmt.Fprintln(os.Stderr, "no mount namespace:", err)
		os.Exit(1)
	}
	stop := need.OnSignal(func() {
		if kernelOpen.Load() {
			if err := harness.PutBack(); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
	})
	code := m.Run()
	stop()
	os.Exit(code)
}

// kernelOpen says that a test has the kernel's audit.
var kernelOpen atomic.Bool

// folder makes a folder for disks. make powertest has it in memory where there is room: a test writes some GB.
func folder(t *testing.T) string {
	t.Helper()
	need.Root(t)
	for _, tool := range Tools() {
		if _, err := exec.LookPath(tool); err != nil {
			need.Missing(t, tool+" (Debian: qemu-system-common, e2fsprogs)")
		}
	}
	dir, err := os.MkdirTemp("", "power-") // short: sockets lie in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
