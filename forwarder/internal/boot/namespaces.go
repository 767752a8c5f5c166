package boot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Answer is yes, no, or that it can't be told.
type Answer uint8

const (
	Unknown Answer = iota
	Yes
	No
)

// FirstUserNamespace says whether this process is in the user namespace the machine
// booted with, the only one that the kernel's audit answers in. It is the one in which
// every id is mapped to itself.
func FirstUserNamespace(root string) Answer {
	b, err := os.ReadFile(filepath.Join(root, "/proc/self/uid_map"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Unknown
	case err != nil:
		return Unknown
	case strings.Join(strings.Fields(string(b)), " ") == "0 0 4294967295":
		return Yes
	}
	return No
}

// FirstNetworkNamespace says whether this process is in the network namespace the
// machine booted with, the only one that the kernel sends the multicast group's records
// to (kernel/audit.c, kauditd_send_multicast_skb). The backlog of network devices is a
// setting of the whole machine's, which the kernel shows in that one only.
func FirstNetworkNamespace(root string) Answer {
	const folder = "/proc/sys/net/core"
	if _, err := os.Stat(filepath.Join(root, folder, "somaxconn")); err != nil {
		return Unknown
	}
	_, err := os.Stat(filepath.Join(root, folder, "netdev_max_backlog"))
	switch {
	case err == nil:
		return Yes
	case errors.Is(err, fs.ErrNotExist):
		return No
	}
	return Unknown
}

// HasAudit says whether the kernel was built with audit: it then has a login uid for
// each process, also when it was booted with audit=0.
func HasAudit(root string) Answer {
	if _, err := os.Stat(filepath.Join(root, "/proc/self")); err != nil {
		return Unknown
	}
	switch _, err := os.Stat(filepath.Join(root, "/proc/self/loginuid")); {
	case err == nil:
		return Yes
	case errors.Is(err, fs.ErrNotExist):
		return No
	}
	return Unknown
}

// NoAudit says why a kernel has no audit and what to do, for a program that was told
// that the protocol is not supported.
func NoAudit(root string) string {
	cmdline, err := Cmdline(root)
	switch {
	case err == nil && ParamOf(cmdline) == Off:
		return "this kernel was booted with audit=0: take it off the kernel's command line and boot again"
	case HasAudit(root) == No:
		return "this kernel was built without audit (CONFIG_AUDIT)"
	}
	return "this kernel has no audit: it was booted with audit=0, or built without (CONFIG_AUDIT)"
}

// Refused says why the kernel refuses every request about audit and what to do, for a
// program whose connection was refused.
func Refused(root string) string {
	if FirstUserNamespace(root) == Yes {
		return "nobody answers for the kernel's audit here: " + NoAudit(root)
	}
	return "the kernel's audit answers only in the user namespace that the machine booted with, and this process is in another one (a container): run it on the host"
}
