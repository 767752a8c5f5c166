package rules

import (
	"os"

	"github.com/auditfleet/auditfleet/pkg/nss"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// Accounts looks up the numbers of users and groups that a rule names.
type Accounts interface {
	UserID(name string) (uint32, bool)
	GroupID(name string) (uint32, bool)
}

// Env describes the machine for which a command line is parsed; the meaning of some words
// depends on it.
type Env struct {
	Arch     uint32                 // the machine's AUDIT_ARCH_*: what b64 and a missing arch mean
	Accounts Accounts               // nil: no name is known
	IsDir    func(path string) bool // whether -w watches a tree; nil: never
}

// SystemEnv returns the Env of this machine.
func SystemEnv() Env {
	return Env{Arch: tables.MachineArch(), Accounts: nss.New(nss.Config{}), IsDir: func(path string) bool {
		info, err := os.Stat(path)
		return err == nil && info.IsDir()
	}}
}

// knownArch reports whether rules may name that architecture: those auditctl
// has system call tables for, and the machine's own.
func (e *Env) knownArch(arch uint32) bool {
	switch arch {
	case tables.ArchX86_64, tables.ArchI386, tables.ArchPPC64, tables.ArchPPC64LE, tables.ArchPPC,
		tables.ArchS390X, tables.ArchS390, tables.ArchARM, tables.ArchAArch64:
		return true
	}
	other, ok := tables.Arch32(e.Arch)
	return arch == e.Arch || ok && arch == other
}
