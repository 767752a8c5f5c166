package ruleset

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/rules"
)

const examplesDir = "/usr/share/doc/auditd/examples/rules"

// examples parses the rule files that Debian's auditd package ships.
func examples(t *testing.T) []*File {
	t.Helper()
	need.Stock(t, "auditctl")
	paths, err := filepath.Glob(filepath.Join(examplesDir, "*"+Suffix))
	if err != nil || len(paths) == 0 {
		need.Missing(t, "the stock package's example rules are not in "+examplesDir)
	}
	var files []*File
	for _, p := range paths {
		data, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, Parse(p, data, rules.SystemEnv()))
	}
	return files
}

// TestExamples: every line of the shipped files is understood, but those that
// name an account this machine lacks.
func TestExamples(t *testing.T) {
	lines, accounts := 0, 0
	for _, f := range examples(t) {
		for _, l := range f.Lines {
			lines++
			if l.Err == nil {
				continue
			}
			if !strings.HasPrefix(l.Err.Msg, "Unknown user") && !strings.HasPrefix(l.Err.Msg, "Unknown group") {
				t.Error(l.Explain())
			}
			accounts++
		}
	}
	t.Logf("%d lines, %d of them with an unknown account", lines, accounts)
	if lines < 200 || accounts > lines/20 {
		t.Errorf("%d lines, %d of them with an unknown account", lines, accounts)
	}
}

var sentRule = regexp.MustCompile(`nlmsg_type=(0x3f3|AUDIT_ADD_RULE)[^"]*"([^"]*)"`)

// TestExamplesAsAuditctl runs auditctl on each rule of the shipped files with all
// its requests failing before they reach the kernel, and compares what it would
// have sent byte by byte.
func TestExamplesAsAuditctl(t *testing.T) {
	need.Root(t)
	auditctl := need.Stock(t, "auditctl")
	strace := need.Stock(t, "strace") // it keeps auditctl's requests from the kernel
	if testing.Short() {
		t.Skip("starts auditctl two hundred times")
	}
	trace := filepath.Join(t.TempDir(), "trace")
	same, refused := 0, 0
	for _, f := range examples(t) {
		for _, l := range f.Lines {
			if w := l.Words[0].Text; w != "-a" && w != "-A" && w != "-w" {
				continue
			}
			run := func(inject string) (data, out []byte) {
				args := append([]string{"-o", trace, "-xx", "-s", "20000", "-e", "trace=sendto", "-e", inject, auditctl}, rules.Args(l.Words)...)
				out, err := exec.Command(strace, args...).CombinedOutput()
				var exit *exec.ExitError
				if !errors.As(err, &exit) {
					t.Fatalf("%s: %v: %s", l.Text, err, out)
				}
				if data, err = os.ReadFile(trace); err != nil {
					t.Fatal(err)
				}
				return data, out
			}
			data, out := run("inject=sendto:error=EPERM")
			if bytes.Contains(out, []byte("supported by")) {
				// It asks the kernel for its features first; that request may go through.
				data, out = run("inject=sendto:error=EPERM:when=2+")
			}
			m := sentRule.FindSubmatch(data)
			if m == nil {
				if l.Err == nil {
					t.Errorf("%s: auditctl refuses it: %s", l.Place(), out)
				}
				if l.Err != nil && !bytes.Contains(out, []byte(l.Err.Msg)) {
					t.Errorf("%s: %q, auditctl says %q", l.Place(), l.Err.Msg, out)
				}
				refused++
				continue
			}
			want, err := hex.DecodeString(strings.ReplaceAll(string(m[2]), `\x`, ""))
			if err != nil {
				t.Fatal(err)
			}
			if l.Err != nil {
				t.Errorf("%s, but auditctl takes it", l.Explain())
				continue
			}
			got, err := l.Cmd.Rule().Marshal()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(bytes.TrimRight(got, "\x00"), bytes.TrimRight(want, "\x00")) {
				t.Errorf("%s: %s\nsent      %x\nauditctl  %x", l.Place(), l.Text, got, want)
				continue
			}
			same++
		}
	}
	t.Logf("%d rules sent as auditctl does, %d refused by both", same, refused)
}
