// Package boottest makes the files of a host below a folder, for tests of what reads
// them: boot, agent and doctor.
package boottest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Host is a made host.
type Host struct {
	Root string
	t    testing.TB
}

// New makes a host that booted an hour ago with that on the kernel's command line, in
// the namespaces it booted with, with one process: the first.
func New(t testing.TB, cmdline string) *Host {
	t.Helper()
	h := &Host{Root: t.TempDir(), t: t}
	h.Write("/proc/cmdline", cmdline+"\n")
	h.Write("/proc/uptime", "3600.00 7000.00\n")
	h.Write("/proc/sys/kernel/random/boot_id", "4be22a64-5a2b-4b30-a1c1-2a4d1b1fd2f7\n")
	h.Write("/proc/sys/net/core/somaxconn", "4096\n")
	h.Write("/proc/sys/net/core/netdev_max_backlog", "1000\n")
	h.Write("/proc/self/uid_map", "         0          0 4294967295\n")
	h.Write("/proc/self/loginuid", "4294967295")
	h.Write("/run/.keep", "")
	h.Process(1, "systemd", 1, 3000)
	return h
}

// Write makes a file with its folders.
func (h *Host) Write(path, text string) {
	h.t.Helper()
	full := filepath.Join(h.Root, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

// Remove removes a file or folder.
func (h *Host) Remove(path string) {
	h.t.Helper()
	if err := os.RemoveAll(filepath.Join(h.Root, path)); err != nil {
		h.t.Fatal(err)
	}
}

// Process makes one that was started that many seconds after the boot.
func (h *Host) Process(pid int, name string, start float64, pages int64) {
	h.t.Helper()
	h.Write(fmt.Sprintf("/proc/%d/comm", pid), name+"\n")
	h.Write(fmt.Sprintf("/proc/%d/stat", pid), fmt.Sprintf("%d (%s) S 0 1 1 0 -1 4194560 1 1 1 1 1 1 1 1 20 0 1 0 %d 1000000 %d 18446744073709551615 1 1 0 0\n",
		pid, name, int64(start*100), pages))
}
