package search

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/output"
)

// A key called like a formula is one no more.
func TestCSVSafeEvents(t *testing.T) {
	const log = `type=SYSCALL msg=audit(1700000000.000:1): arch=c000003e syscall=2 success=yes exit=3 a0=0 items=1 ppid=1 pid=2 auid=0 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) ses=1 comm="x" exe="/bin/x" key="=cmd"
`
	file := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(file, []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		safe bool
	}{{"--format csv --extra-keys", false}, {"--csv-safe --format csv --extra-keys", true}} {
		o, err := ParseArgs(append(strings.Fields(c.args), "-if", file), Env{})
		if err != nil {
			t.Fatal(err)
		}
		var out, errs strings.Builder
		if code := RunFiles(t.Context(), o, nil, "", Stdio{Out: &out, Err: &errs}); code != 0 {
			t.Fatalf("exit %d: %s", code, &errs)
		}
		if safe := strings.HasSuffix(out.String(), ",'=cmd\n"); safe != c.safe {
			t.Errorf("%s: %s%s", c.args, &out, &errs)
		}
	}
	o, err := ParseArgs([]string{"--csv-safe"}, Env{})
	if err != nil || len(o.Notes) != 1 {
		t.Errorf("--csv-safe of no csv: %v, %v", o, err)
	}
}

// TestCSVQuotedOption says what --csv-rfc4180 goes with.
func TestCSVQuotedOption(t *testing.T) {
	for args, want := range map[string]string{
		"--csv-rfc4180": "", "--format csv --csv-rfc4180": "", "--csv-rfc4180 --format csv --extra-keys": "", "--csv-rfc4180 --extra-time": "",
		"--format json --csv-rfc4180":    "--csv-rfc4180 is for --format csv, not for json",
		"-i --csv-rfc4180":               "--csv-rfc4180 is for --format csv, not for interpret",
		"--format default --csv-rfc4180": "--csv-rfc4180 is for --format csv, not for default",
	} {
		o, err := ParseArgs(strings.Fields(args), Env{})
		switch {
		case want == "" && (err != nil || o.Format != output.FormatCSV || o.Escape != interpret.EscapeRaw):
			t.Errorf("%s: %v", args, err)
		case want == "":
			if o.ShowOn(false, true); !o.NoCR {
				t.Errorf("%s: a terminal would be shown the CR", args)
			}
		case want != "" && (err == nil || err.Error() != want):
			t.Errorf("%s: %v, want %s", args, err, want)
		}
	}
}
