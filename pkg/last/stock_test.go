package last

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/internal/need"
)

// answer is what a tool made of a log.
type answer struct {
	Out, Err, Records string
	Code              int
}

// nowDate is where an open session ends, which is not the same in two runs.
var nowDate = regexp.MustCompile(`(--end )[\d/]+/2[6-9] \S*`)

// badSession is the session of a login that failed, which has none: the stock tool writes whatever stands in memory that
// it had used before (DIFFERENCES.md).
var badSession = regexp.MustCompile(` --session \d+( -a )`)

// tailOf is what the stock tool leaves out of the records of --extract (DIFFERENCES.md).
var tailOf = regexp.MustCompile("\x1d.*")

func stockLast(t *testing.T, tool, dir, stdin string, args ...string) (a answer) {
	t.Helper()
	cmd := exec.Command(tool, args...)
	var out, errs bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &errs
	if stdin != "" {
		f, err := os.Open(stdin)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd.Stdin = f
	}
	_ = cmd.Run()
	records, _ := os.ReadFile(filepath.Join(dir, extractFile))
	_ = os.Remove(filepath.Join(dir, extractFile))
	return answer{out.String(), errs.String(), string(records), cmd.ProcessState.ExitCode()}
}

func ourLast(t *testing.T, args ...string) (a answer) {
	t.Helper()
	var out, errs, records bytes.Buffer
	o, err := ParseArgs(args, true, nil)
	if err != nil {
		return answer{Err: err.Error() + "\n", Code: 1}
	}
	if o.Extract {
		o.Extract, o.records = false, &records
	}
	in, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	a.Code = RunFiles(context.Background(), o, time.Local, "", Stdio{In: in, Out: &out, Err: &errs})
	a.Out, a.Err, a.Records = out.String(), errs.String(), records.String()
	return a
}

// oneNode is what tells hosts apart.
var oneNode = regexp.MustCompile(`(?m)^node=\S+ `)

// withoutNull leaves out the records for which the stock tool writes "(null)" (DIFFERENCES.md).
func withoutNull(stock, ours string) (string, string) {
	ours = tailOf.ReplaceAllString(ours, "")
	a, b := strings.SplitAfter(stock, "\n"), strings.SplitAfter(ours, "\n")
	for i := 0; i < len(a) && i < len(b); i++ {
		if a[i] == "(null)\n" {
			a[i], b[i] = "", ""
		}
	}
	return strings.Join(a, ""), strings.Join(b, "")
}

// compare returns how the stock tool and ours differ on a log, "" if they do not.
func compare(t *testing.T, tool, file, log string, args []string) string {
	t.Helper()
	if err := os.WriteFile(file, []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	args = append([]string{"-f", file}, args...)
	stock, ours := stockLast(t, tool, filepath.Dir(file), "", args...), ourLast(t, args...)
	for _, a := range []*answer{&stock, &ours} {
		a.Out = nowDate.ReplaceAllString(a.Out, "${1}NOW")
		if slices.Contains(args, "--bad") {
			a.Out = badSession.ReplaceAllString(a.Out, "$1")
		}
	}
	stock.Records, ours.Records = withoutNull(stock.Records, ours.Records)
	return cmp.Diff(stock, ours)
}

// TestStock compares with aulast, on logs that are made. Of one that is answered otherwise
// it keeps the lines that matter.
func TestStock(t *testing.T) {
	tool := need.Stock(t, "aulast")
	seed := need.Seed(t)
	file := filepath.Join(t.TempDir(), "log")
	options := [][]string{
		{}, {"--bad"}, {"--debug"}, {"--bad", "--debug"}, {"--proof"}, {"--proof", "--bad"}, {"--extract"}, {"--extract", "--bad"}, {"--user", "root", "--debug"},
		{"--user", "joe"}, {"--tty", "pts", "--debug"}, {"--tty", "0"}, {"--tty", "1", "--user", "bin"},
	}
	failures := 0
	for i := range need.Rounds(400, 40) {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		log, args := madeLog(rng, 1+rng.IntN(40)), options[i%len(options)]
		if compare(t, tool, file, log, args) == "" {
			continue
		}
		lines := strings.SplitAfter(log, "\n")
		for j := 0; j < len(lines); {
			fewer := slices.Delete(slices.Clone(lines), j, j+1)
			if compare(t, tool, file, strings.Join(fewer, ""), args) != "" {
				lines = fewer
			} else {
				j++
			}
		}
		log = strings.Join(lines, "")
		t.Errorf("round %d %q: -stock +ours:\n%s\nlog:\n%s", i, args, compare(t, tool, file, log, args), log)
		if failures++; failures == 6 {
			t.FailNow()
		}
	}
}
