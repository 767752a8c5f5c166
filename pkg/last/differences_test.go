package last

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
)

const (
	loginRecord = "type=LOGIN msg=audit(1700000000.000:1): pid=1 uid=0 old-auid=4294967295 auid=2 tty=(none) old-ses=4294967295 ses=1 res=1\n"
	userLogin   = "type=USER_LOGIN msg=audit(1700000100.000:2): pid=1 uid=0 auid=2 ses=1 msg='op=login id=2 hostname=web1 addr=? terminal=ssh res=success'\n"
	laterLogin  = "type=USER_LOGIN msg=audit(1700000200.000:3): pid=1 uid=0 auid=2 ses=2 msg='op=login id=2 hostname=web2 addr=? terminal=ssh res=success'\n"
	badLogin    = "type=USER_LOGIN msg=audit(1700000300.000:4): pid=1 uid=0 auid=4294967295 ses=4294967295 msg='op=login id=2 hostname=web1 addr=? terminal=ssh res=failed'\n"
	openCall    = "type=SYSCALL msg=audit(1700000000.000:9): arch=c000003e syscall=1 success=yes\n"
	bootRecord  = "type=SYSTEM_BOOT msg=audit(1700000400.000:5): pid=1 uid=0\n"
)

// knownDifferences are the rows of DIFFERENCES.md: what the stock tool's answer has, and ours.
var knownDifferences = []struct {
	name, tool, log string
	args            []string
	folder          bool // the log is audit.log of a folder that is named
	stock, ours     string
}{
	{"login-behind-login", "aulastlog", userLogin + laterLogin, []string{"--stdin", "-u", "bin"}, false, `web1`, `web2`},
	{"other-hosts", "aulast", "node=a " + loginRecord + "node=a " + userLogin + "node=b " + bootRecord, nil, false, `bin .*- crash`, `bin .*still logged in`},
	{"order", "aulast", openCall + strings.Replace(userLogin, "1700000100.000", "1700000001.000", 1) + loginRecord, nil, false, `still logged in`, `^$`},
	{"extract-null", "aulast", badLogin, []string{"--extract", "--bad"}, false, `(?m)^\(null\)$`, `(?m)^type=USER_LOGIN`},
	{"extract-tail", "aulast", strings.TrimSuffix(loginRecord, "\n") + "\x1dAUID=\"joe\"\n", []string{"--extract"}, false, `res=1\n`, "res=1\x1dAUID=\"joe\"\n"},
	{"folder", "aulast", bootRecord, nil, true, `^$`, `reboot`},
}

// TestKnownDifferences has each example answered by both.
func TestKnownDifferences(t *testing.T) {
	for _, d := range knownDifferences {
		t.Run(d.name, func(t *testing.T) {
			tool := need.Stock(t, d.tool)
			dir := t.TempDir()
			file := filepath.Join(dir, "audit.log")
			if err := os.WriteFile(file, []byte(d.log), 0o600); err != nil {
				t.Fatal(err)
			}
			named := file
			if d.folder {
				named = dir
			}
			var stock, ours answer
			if d.tool == "aulastlog" {
				stock, ours = stockLast(t, tool, dir, file, d.args...), ourLogins(t, file, d.args...)
			} else {
				args := append([]string{"-f", named}, d.args...)
				stock, ours = stockLast(t, tool, dir, "", args...), ourLast(t, args...)
			}
			if text := stock.Out + stock.Records; !regexp.MustCompile(d.stock).MatchString(text) {
				t.Errorf("stock says %q, want %s", text, d.stock)
			}
			if text := ours.Out + ours.Records; !regexp.MustCompile(d.ours).MatchString(text) {
				t.Errorf("ours says %q, want %s", text, d.ours)
			}
		})
	}
}

// TestDifferencesAreListed keeps DIFFERENCES.md whole: each case is a row, and two rows are
// tested elsewhere, extract-file below and newer-calls by the forwarder's command line.
func TestDifferencesAreListed(t *testing.T) {
	b, err := os.ReadFile("DIFFERENCES.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range knownDifferences {
		if !bytes.Contains(b, []byte("| "+d.name+" |")) {
			t.Errorf("DIFFERENCES.md does not list %s", d.name)
		}
	}
	const head = 2 // and the line below it
	if rows := bytes.Count(b, []byte("\n|")) - head; rows != len(knownDifferences)+2 {
		t.Errorf("DIFFERENCES.md has %d rows for %d differences", rows, len(knownDifferences)+2)
	}
}

// TestExtractFile writes aulast.log for its owner only, and not through a link.
func TestExtractFile(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.WriteFile("log", []byte(loginRecord+userLogin+bootRecord), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func() (int, string) {
		o, err := ParseArgs([]string{"-f", "log", "--extract"}, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		return RunFiles(context.Background(), o, time.UTC, "", Stdio{Out: &out, Err: &errs}), errs.String()
	}
	if code, errs := run(); code != 0 {
		t.Fatal(code, errs)
	}
	info, err := os.Stat(extractFile)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if b, _ := os.ReadFile(extractFile); string(b) != loginRecord+userLogin+bootRecord {
		t.Errorf("%q", b)
	}
	if err := os.Rename(extractFile, "elsewhere"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("elsewhere", extractFile); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("elsewhere", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, errs := run(); code != 0 {
		t.Errorf("in a link's place: %d %q", code, errs)
	}
	if b, err := os.ReadFile("elsewhere"); len(b) != 0 || err != nil {
		t.Errorf("through the link: %q %v", b, err)
	}
	if info, err := os.Lstat(extractFile); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	// Where it can't have its name, that is said and nothing is left.
	if err := os.Remove(extractFile); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(extractFile+"/x", 0o700); err != nil {
		t.Fatal(err)
	}
	if code, errs := run(); code != CodeError || !strings.Contains(errs, "--extract: ") {
		t.Errorf("in a folder's place: %d %q", code, errs)
	}
	if left, _ := filepath.Glob(".aulast-*"); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
