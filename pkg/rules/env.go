package rules

import (
	"os"
	"runtime"

	"github.com/auditfleet/auditfleet/pkg/nss"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// Accounts looks up the names a rule may use for numbers.
type Accounts interface {
	UserID(name string) (uint32, bool)
	GroupID(name string) (uint32, bool)
}

// Env is the machine that a command line is read for: the meaning of its words depends
// on it.
type Env struct {
	Arch     uint32                 // the machine's AUDIT_ARCH_*: what b64 and a missing arch mean
	Accounts Accounts               // nil: no name is known
	IsDir    func(path string) bool // whether -w watches a tree; nil: never
}

// SystemEnv returns the Env of this machine.
func SystemEnv() Env {
	return Env{Arch: MachineArch(), Accounts: nss.New(nss.Config{}), IsDir: func(path string) bool {
		info, err := os.Stat(path)
		return err == nil && info.IsDir()
	}}
}

// MachineArch is the AUDIT_ARCH_* number of the machine this program was built
// for.
func MachineArch() uint32 {
	switch runtime.GOARCH {
	case "386":
		return tables.ArchI386
	case "arm":
		return tables.ArchARM
	case "arm64":
		return tables.ArchAArch64
	case "ppc64":
		return tables.ArchPPC64
	case "ppc64le":
		return tables.ArchPPC64LE
	case "s390x":
		return tables.ArchS390X
	case "riscv64":
		return tables.ArchRISCV64
	case "loong64":
		n, _ := tables.ArchByName("loongarch64")
		return n
	}
	return tables.ArchX86_64
}

// knownArch reports whether rules may name that architecture: those auditctl
// has system call tables for, and the machine's own.
func (e *Env) knownArch(arch uint32) bool {
	switch arch {
	case tables.ArchX86_64, tables.ArchI386, tables.ArchPPC64, tables.ArchPPC64LE, tables.ArchPPC,
		tables.ArchS390X, tables.ArchS390, tables.ArchARM, tables.ArchAArch64:
		return true
	}
	other, ok := compat32(e.Arch)
	return arch == e.Arch || ok && arch == other
}
