package search

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event/eventtest"
	"github.com/auditfleet/auditfleet/pkg/search/madelog"
)

// madeFormats are the formats whose output is taken apart into events.
var madeFormats = [][]string{
	nil, {"-r"}, {"--format", "raw"}, {"--format", "default"}, {"-i"}, {"--interpret"}, {"--format", "interpret"},
	{"-i", "--escape", "raw"}, {"-i", "--escape", "tty"}, {"-i", "--escape", "shell"}, {"-i", "--escape", "shell_quote"},
}

// inForm puts a random output format in the place of that of a command line.
func inForm(r *rand.Rand, args []string, forms [][]string) []string {
	args = slices.DeleteFunc(slices.Clone(args), func(a string) bool { return a == "-r" })
	if i := slices.Index(args, "--format"); i >= 0 {
		args = slices.Delete(args, i, i+2)
	}
	return append(args, forms[r.IntN(len(forms))]...)
}

// knownMachines takes away machines that nobody knows: what is made of their system calls
// is a difference that pkg/interpret lists.
func knownMachines(log string) string {
	return strings.ReplaceAll(log, "arch=deadbeef", "arch=c0000015")
}

// byName says whether a search is for an account's name: the stock tool then finds
// events in csv and text that it does not find in raw, depending on the one before.
func byName(query []string) bool {
	for _, opt := range []string{"-ui", "-ua", "-ue", "-ul"} {
		if v, ok := given(query, opt); ok && !isDigit(v) {
			return true
		}
	}
	return false
}

// TestSameAsStockMade compares searches in every format on made logs, whose
// hosts, accounts, names and kinds of records no single machine has.
func TestSameAsStockMade(t *testing.T) {
	t.Parallel()
	bin := need.Stock(t, "ausearch")
	logs, rounds := need.Rounds(40, 3), need.Size(30, 6)
	seed := need.Seed(t)
	total, nonEmpty, failures := 0, 0, 0
	counts := map[string]int{}
	told := &toldRun{bin: bin, counts: map[string]int{}}
	for i := range logs {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		path := writeLog(t, eventtest.WithoutLogins(knownMachines(madelog.Log(r, 20+r.IntN(200)))))
		p := poolOf(eventtest.Read(t, path))
		for range rounds {
			args := append([]string{"-if", path}, inForm(r, p.query(r), madeFormats)...)
			stock, ours := normalWords(runStock(t, bin, nil, args...)), normalWords(runOurs(utcEnv, args...))
			total++
			if stock.out != "" {
				nonEmpty++
			}
			if diff := compare(args, stock, ours, counts); diff != "" {
				t.Errorf("log %d: ausearch %q: %s", i, args, diff)
				keepLog(t, path)
				if failures++; failures >= 8 {
					t.Fatal("too many differences")
				}
			}
		}
		path = writeLog(t, shown(t, bin, knownMachines(madelog.InOrder(r, 20+r.IntN(200)))))
		p = poolOf(eventtest.Read(t, path))
		for range rounds / 3 {
			query := slices.DeleteFunc(inForm(r, p.query(r), [][]string{nil}), func(a string) bool { return a == "--just-one" })
			raw := append([]string{"-if", path, "-r"}, query...)
			if byName(query) || normalRaw(runStock(t, bin, nil, raw...).out) != runOurs(utcEnv, raw...).out {
				continue // counted above
			}
			told.all(t, fmt.Sprintf("log %d", i), path, [][]string{append(query, toldFormats[r.IntN(len(toldFormats))]...)})
			if t.Failed() {
				keepLog(t, path)
				t.FailNow()
			}
		}
	}
	t.Logf("compared %d invocations, %d with results; events explained by known differences: %v", total, nonEmpty, counts)
	told.report(t)
	if nonEmpty < total/10 {
		t.Errorf("only %d of %d searches found anything: they show little", nonEmpty, total)
	}
}

func logText(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// keepLog copies a log on which the two differ where AUDITFLEET_KEEP says.
func keepLog(t *testing.T, path string) {
	t.Helper()
	if dir := os.Getenv("AUDITFLEET_KEEP"); dir != "" {
		name := strings.ReplaceAll(strings.TrimPrefix(path, os.TempDir()), "/", "_")
		if err := os.WriteFile(dir+"/"+name, []byte(logText(t, path)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
