package tables

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
)

// newer are record types that some stock release has no name for yet; any other
// difference is a mistake.
var newer = []string{
	"DM_CTRL", "DM_EVENT", "IPE_ACCESS", "IPE_CONFIG_CHANGE", "IPE_POLICY_LOAD", "LANDLOCK_ACCESS", "LANDLOCK_DOMAIN",
	"MAC_TASK_CONTEXTS", "MAC_OBJ_CONTEXTS",
}

// TestStockTypes compares with the names `ausearch -m` lists.
func TestStockTypes(t *testing.T) {
	out, _ := exec.Command(need.Stock(t, "ausearch"), "-m").CombinedOutput() // it exits 1
	_, list, ok := strings.Cut(string(out), "Valid message types are: ")
	if !ok {
		t.Fatalf("ausearch -m lists nothing: %s", out)
	}
	stock := strings.Fields(list)
	for _, name := range stock {
		if _, ok := TypeByName([]byte(name)); !ok && name != "ALL" {
			t.Errorf("stock knows %s", name)
		}
	}
	for _, n := range Types() {
		if name := TypeName(n); !slices.Contains(stock, name) && !slices.Contains(newer, name) {
			t.Errorf("stock does not know %s", name)
		}
	}
	if len(stock) < 180 {
		t.Errorf("only %d names", len(stock))
	}
}

// TestStockSyscalls compares with `ausyscall ARCH --dump`. Stock tables end where
// their release did; up to there they must be the same.
func TestStockSyscalls(t *testing.T) {
	tool := need.Stock(t, "ausyscall")
	for _, arch := range []uint32{
		ArchX86_64, ArchI386, ArchAArch64, ArchARM, ArchPPC, ArchPPC64, ArchPPC64LE, ArchS390, ArchS390X,
	} {
		name, _ := ArchName(arch)
		out, err := exec.Command(tool, name, "--dump").Output()
		if err != nil {
			t.Fatalf("ausyscall %s --dump: %v", name, err)
		}
		known, last := 0, 0
		for line := range strings.Lines(string(out)) {
			num, call, ok := strings.Cut(strings.TrimSpace(line), "\t")
			if !ok {
				continue // "Using x86_64 syscall table:"
			}
			nr := atoi(t, num)
			known++
			if nr < denseLimit {
				last = max(last, nr)
			}
			if got, ok := SyscallName(arch, nr); !ok || got != call {
				t.Errorf("%s: %d is %q, %s to stock", name, nr, got, call)
			}
		}
		ours := 0
		for _, nr := range Syscalls(arch) {
			if nr <= last || nr >= denseLimit {
				ours++
			}
		}
		if known < 250 || ours != known {
			t.Errorf("%s: %d system calls up to %d, stock has %d", name, ours, last, known)
		}
	}
}
