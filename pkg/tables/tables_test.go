package tables

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/elastic/go-libaudit/v2/auparse"
)

func TestTypes(t *testing.T) {
	for _, tt := range []struct {
		name string
		num  uint16
	}{
		{"USER", User}, {"LOGIN", Login}, {"USER_AUTH", UserAuth}, {"USER_LOGIN", UserLogin}, {"USER_CMD", UserCmd},
		{"DAEMON_START", DaemonStart}, {"DAEMON_ERR", DaemonErr}, {"SYSCALL", Syscall}, {"PATH", Path}, {"CWD", CWD},
		{"SOCKADDR", SockAddr}, {"EXECVE", Execve}, {"EOE", EOE}, {"PROCTITLE", Proctitle}, {"SECCOMP", Seccomp},
		{"URINGOP", 1336}, {"OPENAT2", 1337}, {"DM_CTRL", 1338}, {"DM_EVENT", 1339}, {"AVC", AVC},
		{"MAC_UNLBL_ALLOW", MACUnlblAllow}, {"MAC_CALIPSO_DEL", MACCalipsoDel},
		{"IPE_ACCESS", 1420}, {"IPE_CONFIG_CHANGE", 1421}, {"IPE_POLICY_LOAD", 1422}, {"LANDLOCK_ACCESS", 1423},
		{"LANDLOCK_DOMAIN", 1424}, {"MAC_TASK_CONTEXTS", 1425}, {"MAC_OBJ_CONTEXTS", 1426},
		{"APPARMOR", AppArmor}, {"APPARMOR_KILL", 1507}, {"ANOM_PROMISCUOUS", FirstAnom}, {"ANOM_LINK", AnomLink},
		{"INTEGRITY_POLICY_RULE", 1807}, {"KERNEL", Kernel}, {"ANOM_LOGIN_FAILURES", FirstUserAnom},
		{"CRYPTO_IPSEC_SA", 2409}, {"VIRT_MACHINE_ID", VirtMachineID}, {"VIRT_MIGRATE_OUT", 2507},
	} {
		if n, ok := TypeByName([]byte(tt.name)); !ok || n != tt.num {
			t.Errorf("TypeByName(%s) = %d, %v; want %d", tt.name, n, ok, tt.num)
		}
		if name := TypeName(tt.num); name != tt.name {
			t.Errorf("TypeName(%d) = %s, want %s", tt.num, name, tt.name)
		}
	}
}

func TestTypeByName(t *testing.T) {
	for _, tt := range []struct {
		name string
		num  uint16
		ok   bool
	}{
		{"syscall", Syscall, true},
		{"User_Login", UserLogin, true},
		{"UNKNOWN[1334]", 1334, true},
		{"unknown[1]", 1, true},
		{"UNKNOWN[0]", 0, true},
		{"UNKNOWN[65535]", 65535, true},
		{"UNKNOWN[65536]", 0, false},
		{"UNKNOWN[123456789]", 0, false},
		{"UNKNOWN[]", 0, false},
		{"UNKNOWN[-1]", 0, false},
		{"UNKNOWN[1334", 0, false},
		{"UNKNOWN[1334]x", 0, false},
		{"UNKNOWN", 0, false},
		{"", 0, false},
		{"1300", Syscall, true},
		{"65535", 65535, true},
		{"65536", 0, false},
		{"13OO", 0, false},
		{"SYSCALLS", 0, false},
		{"GET_FEATURE", 0, false},
		{strings.Repeat("A", 40), 0, false},
	} {
		if n, ok := TypeByName([]byte(tt.name)); n != tt.num && ok || ok != tt.ok {
			t.Errorf("TypeByName(%q) = %d, %v; want %d, %v", tt.name, n, ok, tt.num, tt.ok)
		}
	}
	for _, n := range Types() {
		name := TypeName(n)
		if got, ok := TypeByName([]byte(strings.ToLower(name))); !ok || got != n {
			t.Errorf("%d is %s is %d", n, name, got)
		}
	}
	for n := range 1 << 16 {
		if got, ok := TypeByName([]byte(TypeName(uint16(n)))); !ok || got != uint16(n) {
			t.Fatalf("%d is %s is %d", n, TypeName(uint16(n)), got)
		}
	}
	names := [][]byte{[]byte("SYSCALL"), []byte("USER_LOGIN"), []byte("user_login"), []byte("UNKNOWN[1334]"), []byte("NEWS")}
	if n := testing.AllocsPerRun(100, func() {
		for _, name := range names {
			TypeByName(name)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestAgainstLibaudit: what go-libaudit knows is here, and the other way round
// but for what it lacks.
func TestAgainstLibaudit(t *testing.T) {
	added := []uint16{}
	for _, n := range Types() {
		there := auparse.AuditMessageType(n).String()
		switch {
		case strings.HasPrefix(there, "UNKNOWN"):
			added = append(added, n)
		case there != TypeName(n):
			t.Errorf("%d is %s, %s to go-libaudit", n, TypeName(n), there)
		}
	}
	if want := []uint16{1420, 1421, 1422, 1423, 1424, 1425, 1426}; !slices.Equal(added, want) {
		t.Errorf("more than go-libaudit has: %d, want %d", added, want)
	}
	lacks := []int{463, 464, 465, 466, 467, 468, 469, 470, 471}
	for _, arch := range []uint32{ArchX86_64, ArchI386, ArchAArch64, ArchARM, ArchPPC, ArchS390, ArchS390X} {
		name, _ := ArchName(arch)
		if name == "armeb" {
			name = "arm"
		}
		there := maps.Clone(auparse.AuditSyscalls[name])
		more := []int{}
		for _, nr := range Syscalls(arch) {
			got, ok := SyscallName(arch, nr)
			if !ok {
				t.Errorf("%s: no name for %d", name, nr)
			}
			if want, ok := there[nr]; !ok {
				more = append(more, nr)
			} else if want != got && want != "madvise1" {
				t.Errorf("%s: %d is %s, %s to go-libaudit", name, nr, got, want)
			}
			delete(there, nr)
		}
		if len(there) > 0 || !slices.Equal(more, lacks) {
			t.Errorf("%s: lacks %v, has more: %v", name, there, more)
		}
	}
	for name, n := range auparse.AuditErrnoToNum {
		if got, ok := ErrnoByName(name); !ok || got != n {
			t.Errorf("%s is %d, %d to go-libaudit", name, got, n)
		}
		if got, ok := ErrnoName(n); !ok || got != auparse.AuditErrnoToName[n] {
			t.Errorf("%d is %s, %s to go-libaudit", n, got, auparse.AuditErrnoToName[n])
		}
	}
	for num, name := range auparse.AuditArchNames {
		if got, ok := ArchByName(name); name != "armeb" && name != "sparc64" && (!ok || got != uint32(num)) {
			t.Errorf("%s is %#x, %#x to go-libaudit", name, got, uint32(num))
		}
	}
}

func TestSyscalls(t *testing.T) {
	for _, tt := range []struct {
		arch uint32
		nr   int
		name string
	}{
		{ArchX86_64, 0, "read"}, {ArchX86_64, 59, "execve"}, {ArchX86_64, 257, "openat"}, {ArchX86_64, 469, "file_setattr"},
		{ArchI386, 5, "open"}, {ArchI386, 463, "setxattrat"}, {ArchAArch64, 56, "openat"}, {ArchAArch64, 467, "open_tree_attr"},
		{ArchARM, 322, "openat"}, {ArchPPC64LE, 5, "open"}, {ArchPPC64, 5, "open"}, {ArchS390, 5, "open"}, {ArchS390X, 288, "openat"},
		{ArchRISCV64, 259, "riscv_flush_icache"}, {ArchRISCV64, 56, "openat"},
	} {
		if name, ok := SyscallName(tt.arch, tt.nr); !ok || name != tt.name {
			t.Errorf("%#x %d is %s, want %s", tt.arch, tt.nr, name, tt.name)
		}
		if nr, ok := SyscallByName(tt.arch, strings.ToUpper(tt.name)); !ok || nr != tt.nr {
			t.Errorf("%#x %s is %d, want %d", tt.arch, tt.name, nr, tt.nr)
		}
	}
	if nr, ok := SyscallByName(ArchI386, "madvise1"); !ok || nr != 219 {
		t.Errorf("madvise1 is %d", nr)
	}
	for _, tt := range []struct {
		arch uint32
		nr   int
	}{{ArchX86_64, -1}, {ArchX86_64, 335}, {ArchX86_64, 472}, {ArchX86_64, 1 << 30}, {ArchRISCV64, 38}, {0, 1}, {0x8, 1}} {
		if name, ok := SyscallName(tt.arch, tt.nr); ok || name != "" {
			t.Errorf("%#x %d is %q", tt.arch, tt.nr, name)
		}
	}
	if _, ok := SyscallByName(ArchX86_64, "no_such_call"); ok {
		t.Error("no_such_call is a system call")
	}
	if _, ok := SyscallByName(0, "read"); ok {
		t.Error("read is a system call of no architecture")
	}
	if Syscalls(0) != nil {
		t.Error("no architecture has system calls")
	}
}

func TestArches(t *testing.T) {
	seen := map[uint32]string{}
	for _, a := range archs {
		if other, ok := seen[a.num]; ok {
			t.Errorf("%#x is %s and %s", a.num, a.name, other)
		}
		seen[a.num] = a.name
		if num, ok := ArchByName(strings.ToUpper(a.name)); !ok || num != a.num {
			t.Errorf("%s is %#x, want %#x", a.name, num, a.num)
		}
	}
	for name, want := range map[string]uint32{"arm": ArchARM, "armv7l": ArchARM, "i686": ArchI386, "x86_64": 0xc000003e} {
		if num, ok := ArchByName(name); !ok || num != want {
			t.Errorf("%s is %#x, want %#x", name, num, want)
		}
	}
	if _, ok := ArchByName("vax"); ok {
		t.Error("vax is known")
	}
	if _, ok := ArchName(1); ok {
		t.Error("1 has a name")
	}
}

func TestErrno(t *testing.T) {
	for n, name := range map[int]string{1: "EPERM", 13: "EACCES", 11: "EAGAIN", 35: "EDEADLK", 95: "EOPNOTSUPP", 133: "EHWPOISON"} {
		if got, ok := ErrnoName(n); !ok || got != name {
			t.Errorf("%d is %s, want %s", n, got, name)
		}
	}
	for name, n := range map[string]int{"EWOULDBLOCK": 11, "EDEADLOCK": 35, "ENOTSUP": 95, "eacces": 13} {
		if got, ok := ErrnoByName(name); !ok || got != n {
			t.Errorf("%s is %d, want %d", name, got, n)
		}
	}
	for _, n := range []int{-1, 0, 41, 134, 1000} {
		if name, ok := ErrnoName(n); ok {
			t.Errorf("%d is %s", n, name)
		}
	}
	if _, ok := ErrnoByName("ENOSUCH"); ok {
		t.Error("ENOSUCH is known")
	}
}

// TestText reads every line of the generated tables.
func TestText(t *testing.T) {
	for name, text := range map[string]string{
		"types": typesText, "errno": errnoText, "errno aliases": errnoAliasText, "x86_64": syscallsX86_64, "i386": syscallsI386,
		"aarch64": syscallsAarch64, "arm": syscallsArm, "ppc": syscallsPpc, "s390": syscallsS390, "s390x": syscallsS390x,
		"riscv64": syscallsRiscv64,
	} {
		n, last := 0, -1
		eachLine(text, func(num int, word string) {
			n++
			if num <= last || word == "" || strings.ContainsAny(word, " \t") {
				t.Errorf("%s: %d %q after %d", name, num, word, last)
			}
			last = num
		})
		if want := strings.Count(text, "\n") + 1; n != want {
			t.Errorf("%s: %d of %d lines read", name, n, want)
		}
	}
}

func BenchmarkTypeByName(b *testing.B) {
	for _, name := range []string{"SYSCALL", "USER_LOGIN", "UNKNOWN[1334]"} {
		b.Run(name, func(b *testing.B) {
			in := []byte(name)
			for b.Loop() {
				TypeByName(in)
			}
		})
	}
}

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
