package report

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/pkg/search"
)

// A name that no record has is said beside every report, and changes neither what that
// prints nor its exit code.
func TestMissingNames(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	line := "node=web1 type=SYSCALL msg=audit(1764338645.123:4): arch=c000003e syscall=59 success=yes exit=0 ppid=1 pid=2 auid=1000 uid=0 gid=0 ses=1 comm=\"id\" exe=\"/usr/bin/id\" key=\"logins\"\n"
	if err := os.WriteFile(log, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	for words, want := range map[string]string{
		"--node wbe1":                    "NOTE - no record is of a host called wbe1: did you mean web1?\n",
		"--field key=login5":             "NOTE - no record has the key login5: did you mean logins?\n",
		"--field exe=/usr/bin/di":        "NOTE - no record is of a program called /usr/bin/di: did you mean /usr/bin/id?\n",
		"--field key=logins --node web1": "",
		"--node web1 --field pid=99":     "",
	} {
		for _, kind := range []string{"", "-k", "-x --summary", "-s", "-l", "-au", "--summary", "--by comm", "--every 1h", "-c --format json", "-k --summary --format csv"} {
			answer := func(code int) (string, string, int) {
				o, err := ParseArgs(strings.Fields(kind+" "+words+" -if "+log), search.Env{Stock: code == 0})
				if err != nil {
					t.Fatal(err)
				}
				o.ErrorCode = code
				var out, errs strings.Builder
				exit := RunFiles(t.Context(), o, time.UTC, "", search.Stdio{Out: &out, Err: &errs})
				return out.String(), errs.String(), exit
			}
			out, errs, exit := answer(search.CodeError)
			stockOut, stockErrs, stockExit := answer(0)
			if errs != want || stockErrs != "" || out != stockOut || exit != stockExit {
				t.Errorf("%s %s: %q, %q (%d); under the stock name %q, %q (%d)", kind, words, out, errs, exit, stockOut, stockErrs, stockExit)
			}
		}
	}
}

// A copied log may have lost the byte between key=(null) and the names of the enriched tail:
// such a record has no key all the same.
func TestPastedKeys(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	const call = "type=SYSCALL msg=audit(1764338645.123:%d): arch=c000003e syscall=59 success=yes exit=0 ppid=1 pid=2 auid=1000 uid=0 ses=1 comm=\"id\" exe=\"/usr/bin/id\" key=%s\n"
	if err := os.WriteFile(log, []byte(fmt.Sprintf(call, 1, `(null)ARCH=x86_64 SYSCALL=execve AUID="a"`)+fmt.Sprintf(call, 2, `"k"`)), 0o600); err != nil {
		t.Fatal(err)
	}
	for words, want := range map[string]string{"-k": " k yes /usr/bin/id 1000 2\n", "-k --summary": "\n1  k\n", "--summary": "Number of keys: 1\n"} {
		o, err := ParseArgs(strings.Fields(words+" -if "+log), search.Env{})
		if err != nil {
			t.Fatal(err)
		}
		var out, errs strings.Builder
		code := RunFiles(t.Context(), o, time.UTC, "", search.Stdio{Out: &out, Err: &errs})
		if code != 0 || !strings.Contains(out.String(), want) || strings.Contains(out.String(), "ARCH") {
			t.Errorf("%s: %d, %s", words, code, out.String())
		}
	}
	if keyValue, ok := keyValue("(null)ARCH=x86_64"); ok {
		t.Errorf("an index has %s", keyValue)
	}
}
