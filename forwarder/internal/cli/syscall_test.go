package cli

import (
	"bytes"
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/internal/need"
)

// asked runs ausyscall, ours.
func askedSyscall(t *testing.T, words ...string) (out, errs string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	code = Run(t.Context(), append([]string{"ausyscall"}, words...), Stdio{Out: &o, Err: &e}, "v-test")
	return o.String(), e.String(), code
}

// TestStockSyscall compares with the stock ausyscall. Calls that are newer than it are left
// out of our lists.
func TestStockSyscall(t *testing.T) {
	tool := need.Stock(t, "ausyscall")
	lists := [][]string{{"--dump"}, {"open"}, {""}, {"time64"}, {"OPEN", "5"}, {"5", "open"}, {"--exact", "--dump"}, {"--dump", "nothing"}}
	others := [][]string{
		{}, {"2"}, {"-1"}, {"99999"}, {"open", "--exact"}, {"--exact", "OPEN"}, {"--exact"}, {"--exact", "--exact", "open"}, {"0x5"}, {"5abc"}, {"5.5"}, {"08"}, {"+5"}, {" 5"}, {"5 "}, {"4294967298"}, {"4294967295"},
		{"99999999999999999999"}, {"2147483648"}, {"4294967295", "5"}, {"open", "close"}, {"5", "6"}, {"5", "6", "open"}, {"open", "-1"}, {"--help"}, {"-h"}, {"--Dump"}, {"-dump"}, {"nothing-of-it"}, {"nothing", "--exact"}, {"", "--exact"},
		{"a", "b", "c", "d"}, {"i386", "5", "--exact", "--dump"}, {"x32", "5"}, {"mips", "5"}, {"arm64", "5"}, {"madvise1", "i386"}, {"madvise1", "--exact", "i386"}, {"--exact", "madvise", "i386"},
	}
	archs := []string{"i386", "I686", "x86_64", "b32", "B64", "aarch64", "armeb", "arm", "armv7l", "armv8l", "ppc", "ppc64", "ppc64le", "s390", "s390x", "ia64", "alpha"}
	for _, a := range archs {
		for _, w := range need.Some(append(lists, others[1:20]...), 6) {
			others = append(others, append([]string{a}, w...))
		}
		for _, b := range []string{"x86_64", "alpha", "ia64", "b32"} {
			others = append(others, []string{a, b}, []string{a, b, "5"})
		}
	}
	for _, words := range append(lists, others...) {
		cmd := exec.Command(tool, words...)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		var exit *exec.ExitError
		if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		gotOut, gotErrs, code := askedSyscall(t, words...)
		var kept []string
		for line := range strings.Lines(gotOut) {
			if strings.Contains(out.String(), line) || strings.Count(gotOut, "\n") < 2 {
				kept = append(kept, line)
			}
		}
		if d := cmp.Diff([]any{out.String(), errs.String(), cmd.ProcessState.ExitCode()}, []any{strings.Join(kept, ""), gotErrs, code}); d != "" {
			t.Errorf("ausyscall %q: -stock +ours:\n%s", words, d)
		}
	}
}
