package cli

import (
	"testing"

	"github.com/auditfleet/auditfleet/pkg/tables"
)

// The words are those that auditctl 3.0.9 listed (-l -i) for rules with these
// arguments, loaded into a 6.18 kernel.
func TestArgumentWords(t *testing.T) {
	word := argumentWords()
	for _, c := range []struct {
		arch    uint32
		syscall string
		arg     int
		value   uint32
		want    string
	}{
		{tables.ArchX86_64, "open", 1, 0x40, "O_RDONLY|O_CREAT"},
		{tables.ArchX86_64, "openat", 2, 0x241, "O_WRONLY|O_CREAT|O_TRUNC"},
		{tables.ArchX86_64, "openat", 0, 0xffffff9c, "AT_FDCWD"},
		{tables.ArchX86_64, "socket", 0, 10, "inet6"},
		{tables.ArchX86_64, "socket", 1, 3, "SOCK_RAW"},
		{tables.ArchX86_64, "mmap", 2, 4, "PROT_EXEC"},
		{tables.ArchX86_64, "mmap", 3, 0x22, "MAP_PRIVATE|MAP_ANONYMOUS"},
		{tables.ArchX86_64, "kill", 1, 9, "SIGKILL"},
		{tables.ArchX86_64, "ptrace", 0, 4, "PTRACE_POKETEXT"},
		{tables.ArchI386, "ptrace", 0, 16, "PTRACE_ATTACH"},
		{tables.ArchX86_64, "clone", 0, 0x10000000, "CLONE_NEWUSER"}, // as of 4.x; 3.0.9 takes the third for the flags
		{tables.ArchX86_64, "fchmodat", 2, 0o111, "0111"},
		{tables.ArchX86_64, "chmod", 1, 0x1ff, "0777"},
		{tables.ArchX86_64, "setuid", 0, 0, "root"},
		{tables.ArchX86_64, "prctl", 0, 15, "PR_SET_NAME"},
		{tables.ArchX86_64, "finit_module", 2, 1, "0x1"},
		{tables.ArchX86_64, "umount2", 1, 1, "MNT_FORCE"},
		{tables.ArchX86_64, "fcntl", 1, 1, "F_GETFD"},
		{tables.ArchX86_64, "bpf", 0, 5, "BPF_PROG_LOAD"},
	} {
		nr, ok := tables.SyscallByName(c.arch, c.syscall)
		if !ok {
			t.Errorf("no system call %s", c.syscall)
			continue
		}
		if got := word(c.arch, nr, c.arg, c.value); got != c.want {
			t.Errorf("%s a%d=%#x: %s, auditctl has %s", c.syscall, c.arg, c.value, got, c.want)
		}
	}
}
