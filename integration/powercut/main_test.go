//go:build power

package powercut

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"

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
		if made != "" {
			os.RemoveAll(made)
		}
	})
	code := m.Run()
	stop()
	os.Exit(code)
}

// made is the folder of the test that runs: what a signal has to remove.
var made string

// folder makes a folder for disks, in memory where there is room: a test writes some GB.
func folder(t *testing.T) string {
	t.Helper()
	need.Root(t)
	for _, tool := range Tools() {
		if _, err := exec.LookPath(tool); err != nil {
			need.Missing(t, tool+" (Debian: qemu-system-common, e2fsprogs)")
		}
	}
	parent := os.TempDir()
	var fs syscall.Statfs_t
	if syscall.Statfs("/dev/shm", &fs) == nil && fs.Bavail*uint64(fs.Bsize) > 6<<30 {
		parent = "/dev/shm"
	}
	dir, err := os.MkdirTemp(parent, "auditfleet-power-")
	if err != nil {
		t.Fatal(err)
	}
	made = dir
	t.Cleanup(func() {
		made = ""
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
