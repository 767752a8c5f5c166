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

// FirstUserNamespace reports whether this process is in the user namespace with which the
// machine booted, the only one in which the kernel answers audit requests. It is the one
// in which every id is mapped to itself.
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

// FirstNetworkNamespace reports whether this process is in the network namespace with
// which the machine booted, the only one to which the kernel sends the multicast group's
// records (kernel/audit.c, kauditd_send_multicast_skb). It tells by the setting for the
// backlog of network devices, which the kernel shows only in that namespace.
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

// HasAudit reports whether the kernel was built with audit: it then has a login uid for
// each process, even when it was booted with audit=0.
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

// NoAudit returns a text that says why the kernel has no audit and what to do, for a program
// that got the error "protocol not supported".
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

// Refused returns a text that says why the kernel refuses every audit request and what to
// do, for a program that got the error "connection refused".
func Refused(root string) string {
	if FirstUserNamespace(root) == Yes {
		return "nobody answers for the kernel's audit here: " + NoAudit(root)
	}
	return "the kernel's audit answers only in the user namespace that the machine booted with, and this process is in another one (a container): run it on the host"
}
