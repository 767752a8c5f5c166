package boot

import (
	"os"
	"path/filepath"
	"strings"
)

// Param is what the kernel's command line says about auditing.
type Param uint8

const (
	Unset Param = iota // nothing: auditing is off until somebody switches it on
	On                 // audit=1
	Off                // audit=0: this kernel has no audit until it boots again
)

// ParamOf parses audit= in a command line as the kernel does (kernel/audit.c,
// audit_enable): 0 and off, wherever they stand, switch audit off for the whole boot;
// anything else switches it on.
func ParamOf(cmdline string) Param {
	p := Unset
	for _, word := range strings.Fields(cmdline) {
		if word == "--" {
			break // what follows is init's
		}
		value, ok := strings.CutPrefix(word, "audit=")
		switch {
		case !ok:
		case value == "0" || strings.EqualFold(value, "off"):
			return Off
		default:
			p = On
		}
	}
	return p
}

// Cmdline returns the kernel's command line, from /proc/cmdline below root.
func Cmdline(root string) (string, error) {
	b, err := os.ReadFile(filepath.Join(root, "/proc/cmdline"))
	return strings.TrimSpace(string(b)), err
}
