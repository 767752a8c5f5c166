package tables

import (
	"cmp"
	"runtime"
	"sort"
	"strings"
	"sync"
)

// Architectures, as AUDIT_ARCH_* of include/uapi/linux/audit.h: the ELF machine,
// with bits for 64-bit and little-endian.
const (
	ArchX86_64  uint32 = 0xc000003e
	ArchI386    uint32 = 0x40000003
	ArchAArch64 uint32 = 0xc00000b7
	ArchARM     uint32 = 0x40000028
	ArchPPC     uint32 = 0x14
	ArchPPC64   uint32 = 0x80000015
	ArchPPC64LE uint32 = 0xc0000015
	ArchS390    uint32 = 0x16
	ArchS390X   uint32 = 0x80000016
	ArchRISCV32 uint32 = 0x400000f3
	ArchRISCV64 uint32 = 0xc00000f3

	Arch64Bit        uint32 = 0x80000000 // __AUDIT_ARCH_64BIT
	ArchLittleEndian uint32 = 0x40000000 // __AUDIT_ARCH_LE
)

type arch struct {
	num  uint32
	name string
}

// archs lists every AUDIT_ARCH_* with the name that the stock tools print, if they have
// one (armeb for little-endian ARM is the stock tools' name).
var archs = [...]arch{
	{ArchX86_64, "x86_64"}, {ArchI386, "i386"}, {ArchAArch64, "aarch64"}, {ArchARM, "armeb"},
	{ArchPPC, "ppc"}, {ArchPPC64, "ppc64"}, {ArchPPC64LE, "ppc64le"}, {ArchS390, "s390"}, {ArchS390X, "s390x"},
	{ArchRISCV32, "riscv32"}, {ArchRISCV64, "riscv64"},
	{0x40000102, "loongarch32"}, {0xc0000102, "loongarch64"}, {0xc0009026, "alpha"}, {0xc0000032, "ia64"},
	{0x8, "mips"}, {0x80000008, "mips64"}, {0xa0000008, "mips64n32"},
	{0x40000008, "mipsel"}, {0xc0000008, "mipsel64"}, {0xe0000008, "mipsel64n32"},
	{0xf, "parisc"}, {0x8000000f, "parisc64"}, {0x2, "sparc"}, {0x8000002b, "sparc64"},
	{0x2a, "sh"}, {0x8000002a, "sh64"}, {0x4000002a, "shel"}, {0xc000002a, "shel64"},
	{0x4, "m68k"}, {0x58, "m32r"}, {0x40000071, "nios2"}, {0x4000004c, "cris"}, {0x5441, "frv"},
	{0x2e, "h8300"}, {0x4000008c, "c6x"}, {0x8c, "c6xbe"},
}

// archAliases are further names `uname -m` gives, as the stock tools accept them.
var archAliases = [...]arch{
	{ArchI386, "i486"}, {ArchI386, "i586"}, {ArchI386, "i686"},
	{ArchARM, "arm"}, {ArchARM, "armv5tejl"}, {ArchARM, "armv5tel"}, {ArchARM, "armv6l"}, {ArchARM, "armv7l"},
	{ArchAArch64, "armv8l"},
}

// ArchName returns the name of an AUDIT_ARCH_* number, as in arch=c000003e; false if it
// has none.
func ArchName(num uint32) (string, bool) {
	for i := range archs {
		if archs[i].num == num {
			return archs[i].name, true
		}
	}
	return "", false
}

// ArchNames returns all names that ArchName can return.
func ArchNames() []string {
	names := make([]string, len(archs))
	for i := range archs {
		names[i] = archs[i].name
	}
	return names
}

// ArchByName returns the AUDIT_ARCH_* number of an architecture's name, one of
// ArchName's or a further one that `uname -m` gives. As in the stock tools, case
// does not matter. b32 and b64 depend on the machine and are not known here.
func ArchByName(name string) (uint32, bool) {
	for _, list := range [...][]arch{archs[:], archAliases[:]} {
		for i := range list {
			if strings.EqualFold(list[i].name, name) {
				return list[i].num, true
			}
		}
	}
	return 0, false
}

// Arch32 returns the architecture that b32 stands for on a machine of architecture arch:
// arch itself if it has 32 bits, otherwise its 32-bit sibling; false if there is none.
func Arch32(arch uint32) (uint32, bool) {
	switch arch {
	case ArchX86_64:
		return ArchI386, true
	case ArchPPC64:
		return ArchPPC, true
	case ArchS390X:
		return ArchS390, true
	case ArchAArch64:
		return ArchARM, true
	case ArchRISCV64:
		return ArchRISCV32, true
	}
	if arch&Arch64Bit == 0 {
		return arch, true
	}
	return 0, false
}

// MachineArch returns the AUDIT_ARCH_* number of the architecture for which this program
// was built.
func MachineArch() uint32 {
	names := map[string]string{"amd64": "x86_64", "386": "i386", "arm64": "aarch64", "loong64": "loongarch64"}
	arch, _ := ArchByName(cmp.Or(names[runtime.GOARCH], runtime.GOARCH))
	return arch
}

// syscallTable holds one architecture's system calls.
type syscallTable struct {
	dense  []string       // by number, "" for a gap
	sparse map[int]string // numbers of denseLimit and more: ARM's private ones
	byName map[string]int
	nums   []int
}

const denseLimit = 1024

func newSyscallTable(text string) *syscallTable {
	n := strings.Count(text, "\n") + 1
	t := &syscallTable{byName: make(map[string]int, n), nums: make([]int, 0, n), sparse: map[int]string{}}
	eachLine(text, func(num int, name string) {
		if num < denseLimit {
			for len(t.dense) <= num {
				t.dense = append(t.dense, "")
			}
			t.dense[num] = name
		} else {
			t.sparse[num] = name
		}
		if _, ok := t.byName[name]; !ok {
			t.byName[name] = num
		}
		t.nums = append(t.nums, num)
	})
	sort.Ints(t.nums)
	return t
}

func lazySyscalls(text string) func() *syscallTable {
	return sync.OnceValue(func() *syscallTable { return newSyscallTable(text) })
}

var (
	x86_64Calls = lazySyscalls(syscallsX86_64)
	i386Calls   = sync.OnceValue(func() *syscallTable {
		t := newSyscallTable(syscallsI386)
		t.byName["madvise1"] = 219 // an old second name of madvise
		return t
	})
	aarch64Calls = lazySyscalls(syscallsAarch64)
	armCalls     = lazySyscalls(syscallsArm)
	ppcCalls     = lazySyscalls(syscallsPpc)
	s390Calls    = lazySyscalls(syscallsS390)
	s390xCalls   = lazySyscalls(syscallsS390x)
	riscv64Calls = lazySyscalls(syscallsRiscv64)
)

func syscallsOf(arch uint32) *syscallTable {
	switch arch {
	case ArchX86_64:
		return x86_64Calls()
	case ArchI386:
		return i386Calls()
	case ArchAArch64:
		return aarch64Calls()
	case ArchARM:
		return armCalls()
	case ArchPPC, ArchPPC64, ArchPPC64LE:
		return ppcCalls()
	case ArchS390:
		return s390Calls()
	case ArchS390X:
		return s390xCalls()
	case ArchRISCV64:
		return riscv64Calls()
	}
	return nil
}

// SyscallName returns the name of system call nr of architecture arch (an AUDIT_ARCH_*
// number). It returns false for a number without a name and for an architecture whose
// system calls are not known.
func SyscallName(arch uint32, nr int) (string, bool) {
	t := syscallsOf(arch)
	if t == nil || nr < 0 {
		return "", false
	}
	if nr < len(t.dense) {
		return t.dense[nr], t.dense[nr] != ""
	}
	name, ok := t.sparse[nr]
	return name, ok
}

// SyscallByName returns the number of the system call called name on architecture arch,
// an AUDIT_ARCH_* number; false if it is not known. As in the stock tools, case does not
// matter.
func SyscallByName(arch uint32, name string) (int, bool) {
	t := syscallsOf(arch)
	if t == nil {
		return 0, false
	}
	if n, ok := t.byName[name]; ok {
		return n, true
	}
	n, ok := t.byName[strings.ToLower(name)]
	return n, ok
}

// Syscalls returns the numbers of all named system calls of an architecture in ascending
// order, or nil for an architecture whose system calls are not known.
func Syscalls(arch uint32) []int {
	t := syscallsOf(arch)
	if t == nil {
		return nil
	}
	return append([]int(nil), t.nums...)
}
