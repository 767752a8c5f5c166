package report

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// byCall returns a SYSCALL record as event n, with what replaces the example's fields.
func byCall(n string, replace ...string) string {
	return strings.Replace(stamped("SYSCALL", strings.NewReplacer(replace...).Replace(exampleCall)), ":45)", ":"+n+")", 1)
}

// TestGroupNames counts by ids and numbers: with -i each value has one row, under its name.
func TestGroupNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	records := []string{
		byCall("1", "auid=1000", "auid=4294967295", "uid=0 ", "uid=4294967295 ", "ses=1", "ses=4294967295"),
		byCall("2", "auid=1000", "auid=-1", "gid=0 ", "gid=4294967295 ", "ses=1", "ses=-1"),
		byCall("3", "auid=1000", "auid=4294967295") + "\x1dARCH=x86_64 SYSCALL=openat AUID=\"unset\" UID=\"root\"",
		byCall("4", "auid=1000", "auid=3000000000", "exit=-13", "exit=3", "c000003e", "40000003"),
		byCall("5", "auid=1000", "auid=3000000000", "exit=-13", "exit=0", "c000003e", "40000003", "syscall=257", "syscall=295") +
			"\x1dAUID=\"unknown(-1294967296)\"",
		byCall("6", "auid=1000", "auid=n/a", "exit=-13", "exit=-2", "c000003e", "deadbeef"),
	}
	if err := os.WriteFile(path, []byte(strings.Join(records, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for by, want := range map[string]string{
		"auid":         "unset,3 3000000000,2 ,1",
		"uid":          "root,5 unset,1",
		"gid":          "root,5 unset,1",
		"ses":          "1,4 unset,2",
		"exit":         "EACCES,3 ENOENT,1 0,1 3,1",
		"syscall":      "openat,4 257,1 remap_file_pages,1",
		"syscall,arch": "openat,x86_64,3 257,deadbeef,1 openat,i386,1 remap_file_pages,i386,1",
	} {
		r := runOurs("-if", path, "--by", by, "-i", "--format", "csv")
		_, rows, _ := strings.Cut(r.out, "\n")
		if d := cmp.Diff(want, strings.Join(strings.Fields(rows), " ")); d != "" {
			t.Errorf("--by %s -i (-want +got):\n%s", by, d)
		}
	}
	if r := runOurs("-if", path, "--by", "auid", "-i", "--top", "1", "--format", "csv"); r.out != "auid,events\nunset,3\n" {
		t.Errorf("--top 1: %q", r.out)
	}
	unknown := []string{
		byCall("1", "syscall=257", "syscall=9999") + "\x1dSYSCALL=unknown-syscall(9999)", byCall("2", "syscall=257", "syscall=9999"),
		byCall("3", "syscall=257", "syscall=452") + "\x1dSYSCALL=unknown-syscall(452)", byCall("4", "syscall=257", "syscall=452"),
	}
	other := filepath.Join(t.TempDir(), "audit.log")
	if err := os.WriteFile(other, []byte(strings.Join(unknown, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := runOurs("-if", other, "--by", "syscall", "-i", "--format", "csv"); r.out != "syscall,events\nfchmodat2,2\n9999,2\n" {
		t.Errorf("calls that a host does not know: %q", r.out)
	}
	if r := runOurs("-if", path, "--by", "syscall", "--format", "csv"); r.out != "syscall,events\n257,5\n295,1\n" {
		t.Errorf("without -i: %q", r.out)
	}
}
