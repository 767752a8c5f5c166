package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/golden"
	"github.com/auditfleet/auditfleet/internal/need"
)

// lossTable has the rows of the loss table of docs/coverage.md: the name of each and what was done. What
// `collector coverage` said then is in testdata/losses, where the tests that do it write it with
// -update.
var lossTable = []struct{ id, did string }{
	{"none", "Nothing."},
	{"backlog", "`auditctl -b 64`, 3,000 events while the forwarder is stopped (SIGSTOP)."},
	{"rate-limit", "`auditctl -r 5`, 200 events at once."},
	{"switched-off", "`auditctl -e 0`, and on again after two seconds."},
	{"killed", "The forwarder is killed (SIGKILL); 40 events; it is started again."},
	{"takeover", "A stock auditd takes the forwarder's place; 50 events; back to the forwarder."},
	{"overrun", "`--source multicast --receive-buffer 64K`, 2,000 events while it is stopped (SIGSTOP): ENOBUFS."},
	{"queue", "The disk of the spool hangs until a queue of `--queue 1M` is full."},
	{"spool-full", "The collector is down, `--spool-size 1M`, 20,000 events."},
	{"spool-deleted", "The collector is down, 300 events, the spool is deleted with the forwarder killed."},
	{"spool-damaged", "As before, but a byte of the spool is changed."},
	{"stock-drops", "A stock audisp-remote with `queue_depth = 16`, 2,000 events at once."},
	{"link-held", "The link is cut, then so slow that the host still holds some of 20 events."},
	{"link-cut", "And is mended."},
	{"collector-down", "The collector is killed; 300 events; it is started again."},
	{"disk-full", "The collector's disk is full; 4,000 events; there is room again."},
	{"retention", "The partition is dropped by `max_bytes`."},
	{"damaged", "A byte of a stored block is changed, and a search meets it."},
}

const lossFolder = "testdata/losses"

// Times in the text of coverage.
var (
	someTime = regexp.MustCompile(`(, | since )?\d{4}-\d\d-\d\d \d\d:\d\d:\d\d( to (\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d)?`)
	someDay  = regexp.MustCompile(` (on|until) \d{4}-\d\d-\d\d`)
	number   = regexp.MustCompile(`\d+`)
	older    = regexp.MustCompile(`; \d+ processes are older than auditing`)          // on this machine
	changed  = regexp.MustCompile(`; (before-start|kernel) at kernel: \d records?s?`) // what the kernel loses as its daemon changes
	blanks   = regexp.MustCompile(` {2,}`)
)

// timeless takes the times out of a line of coverage.
func timeless(line string) string {
	line = older.ReplaceAllString(line, "")
	line = someDay.ReplaceAllString(someTime.ReplaceAllString(line, ""), "")
	return strings.TrimSpace(blanks.ReplaceAllString(line, "  ")) + "\n"
}

// shows compares what coverage says of a host with a row of the loss table. exact is false where
// nobody can know the numbers before.
func shows(t *testing.T, c *harness.Collector, id string, exact bool, args ...string) {
	t.Helper()
	r, err := c.Command(time.Minute, "coverage", args...)
	if err != nil || r.Code != 0 && r.Code != 3 || len(r.Stderr) > 0 {
		t.Fatalf("%s: %v %+v", id, err, r)
	}
	file, got := filepath.Join(lossFolder, id+".txt"), timeless(string(r.Stdout))
	if exact || golden.Update() {
		golden.Compare(t, file, got)
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	host, causes := parts(string(want))
	gotHost, gotCauses := parts(got)
	// Which of them a loss of chance leaves, and in what order, is chance as well.
	other := slices.ContainsFunc(gotCauses, func(cause string) bool { return !slices.Contains(causes, cause) })
	if host != gotHost || other || len(gotCauses) == 0 {
		t.Errorf("%s, numbers apart: want %s, causes of %q\ngot %s", file, host, causes, got)
	}
}

// parts divides a line of coverage into the host with its state, and the causes, without numbers.
func parts(line string) (host string, causes []string) {
	fields := strings.SplitN(number.ReplaceAllString(changed.ReplaceAllString(strings.TrimSpace(line), ""), "N"), "  ", 3)
	if len(fields) < 3 {
		return line, nil
	}
	return fields[0] + "  " + fields[1], strings.Split(fields[2], "; ")
}

// The table in docs/coverage.md has a row for each loss that tests make, with what they saw.
func TestLossTable(t *testing.T) {
	var table strings.Builder
	table.WriteString("\n| what was done | what `collector coverage` says |\n|---|---|\n")
	var ids []string
	for _, row := range lossTable {
		text, err := os.ReadFile(filepath.Join(lossFolder, row.id+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&table, "| %s | `%s` |\n", row.did, strings.TrimSpace(string(text)))
		ids = append(ids, row.id)
	}
	table.WriteString("\n")
	files, err := filepath.Glob(filepath.Join(lossFolder, "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if id := strings.TrimSuffix(filepath.Base(f), ".txt"); !slices.Contains(ids, id) {
			t.Errorf("%s is of no row", f)
		}
	}
	golden.ComparePart(t, need.Source(t, "docs/coverage.md"), "loss table", table.String())
}

func TestTimeless(t *testing.T) {
	for line, want := range map[string]string{
		"db1   complete  2026-11-29 13:40:12 to 13:45:31\n": "db1  complete\n",
		"web1  lost 20   serial-gap at host: 20 events, 2026-11-29 13:44:58 to 2026-11-30 13:45:12; died at host, 2026-11-29 13:45:06 to 13:45:12\n": "web1  lost 20  serial-gap at host: 20 events; died at host\n",
		"web1  pending 26  held by the host since 2026-11-29 13:44:58\n":                                                                             "web1  pending 26  held by the host\n",
	} {
		if got := timeless(line); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}
