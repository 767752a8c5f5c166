package search

import (
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event/eventtest"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/search/madelog"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// Where ausearch 4.2.2 knows more than 3.0.9, which the other tests compare with, its
// answer counts. These tests compare with one that the caller has built (need.Newest).

// newestLogs are the logs to compare on: recorded, written by hand, made, those in which
// every type occurs, and the caller's.
func newestLogs(t *testing.T, seed uint64) map[string]string {
	t.Helper()
	logs := need.Logs(t)
	if len(logs) > 0 {
		return logs
	}
	logs = diffLogs(t)
	logs["samples"] = "../record/testdata/samples.log"
	for i := range need.Rounds(10, 2) {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		logs[fmt.Sprint("made", i)] = writeLog(t, madelog.Log(r, 100))
	}
	for name, path := range logs {
		logs[name] = writeLog(t, builtMachines(logText(t, path)))
	}
	return logs
}

// builtMachines takes away the machines that the newest is not built for everywhere.
func builtMachines(log string) string {
	return strings.NewReplacer("arch=deadbeef", "arch=c0000015", "arch=c00000b7", "arch=c0000015").Replace(withoutDropped(log))
}

// newestRun compares with the newest.
type newestRun struct {
	t              *testing.T
	bin            string
	counts         map[string]int
	told           map[string]bool
	total, results int
}

// one compares a search in the formats that print records.
func (c *newestRun) one(name string, args []string) {
	c.t.Helper()
	stock, ours := normalWords(newestRan(runStock(c.t, c.bin, nil, args...))), normalWords(newestRan(runOurs(utcEnv, args...)))
	c.total++
	if stock.out != "" {
		c.results++
	}
	diff := compare(args, stock, ours, c.counts)
	c.tell(name, args, diff)
}

// paths are words with a path; in made events they are put together of parts that no
// kernel writes.
var paths = regexp.MustCompile(`(?m)[^, \n]*(?:/|\(null\)|\\\(null\\\))[^, \n]*`)

// words compares csv and text of a log, but for what but matches.
func (c *newestRun) words(name, log string, but *regexp.Regexp) {
	c.t.Helper()
	path := writeLog(c.t, log)
	for _, form := range toldFormats {
		args := append([]string{"-if", path}, form...)
		stock, ours := newestRan(runStock(c.t, c.bin, nil, args...)), newestRan(runOurs(utcEnv, args...))
		if but != nil {
			stock.out, ours.out = but.ReplaceAllString(stock.out, "P"), but.ReplaceAllString(ours.out, "P")
		}
		c.total++
		c.tell(name, args, toldDiff(args, stock, ours, c.counts))
	}
}

func (c *newestRun) tell(name string, args []string, diff string) {
	c.t.Helper()
	if diff == "" {
		return
	}
	kind := kindOf(diff)
	if c.told[kind] {
		return
	}
	c.told[kind] = true
	c.t.Errorf("%s: ausearch %q: %.1800s", name, args, diff)
	if dir := os.Getenv("AUDITFLEET_KEEP"); dir != "" {
		keepLog(c.t, args[1])
	}
	if len(c.told) > 25 {
		c.t.Fatal("too many differences")
	}
}

// kindOf is a difference without its values: where its lines begin to differ.
func kindOf(diff string) string {
	if _, after, ok := strings.Cut(diff, "stock: \""); ok {
		s, o, _ := strings.Cut(after, "ours: \"")
		sep := ","
		if strings.HasPrefix(s, "At ") || strings.HasPrefix(s, "On ") {
			sep = " "
		}
		a, b := strings.Split(s, sep), strings.Split(o, sep)
		for i := 4; i < min(len(a), len(b)); i++ {
			if a[i] != b[i] {
				return sep + a[min(1, len(a)-1)] + " " + a[i] + " " + b[i]
			}
		}
	}
	var lines [2]string
	for line := range strings.Lines(diff) {
		_, after, ok := strings.Cut(line, "stock")
		if ok {
			lines[0] = after
		} else if _, after, ok := strings.Cut(line, "ours"); ok {
			lines[1] = after
		}
	}
	a, b := strings.Fields(lines[0]), strings.Fields(lines[1])
	for i := range min(len(a), len(b)) {
		if i > 3 && a[i] != b[i] {
			name, _, _ := strings.Cut(a[i], "=")
			other, _, _ := strings.Cut(b[i], "=")
			return strings.Join([]string{name, other}, " ")
		}
	}
	return strings.TrimRight(diff, "0123456789 \n")
}

// types are the numbers of the record types that the newest has a name for. What it has none
// for it does not find.
func (c *newestRun) types() map[string]bool {
	_, list, ok := strings.Cut(runStock(c.t, c.bin, nil, "-m").stderr, "Valid message types are: ")
	if !ok {
		c.t.Fatal("ausearch -m lists no types")
	}
	types := map[string]bool{}
	for name := range strings.FieldsSeq(list) {
		if n, ok := tables.TypeByName([]byte(name)); ok {
			types[strconv.Itoa(int(n))] = true
		}
	}
	return types
}

// TestSameAsNewest compares searches in every format of the stock tool's.
func TestSameAsNewest(t *testing.T) {
	bin := need.Newest(t, "ausearch")
	seed := need.Seed(t)
	logs := newestLogs(t, seed)
	names := make([]string, 0, len(logs))
	for name := range logs {
		names = append(names, name)
	}
	slices.Sort(names)
	c := &newestRun{t: t, bin: bin, counts: map[string]int{}, told: map[string]bool{}}
	rounds, types := need.Rounds(60, 8), c.types()
	for i, name := range names {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		p := poolOf(eventtest.Read(t, logs[name]))
		p.values[query.FieldType] = slices.DeleteFunc(p.values[query.FieldType], func(n string) bool { return !types[n] })
		for _, form := range madeFormats {
			c.one(name, append([]string{"-if", logs[name], "-m", "ALL"}, form...))
		}
		for range rounds {
			query := inForm(r, p.query(r), madeFormats)
			if arch, _ := given(query, "--arch"); arch == "aarch64" || slices.Contains(query, "--just-one") {
				continue // not every build knows it; what comes first is said above
			}
			c.one(name, append([]string{"-if", logs[name]}, query...))
		}
		if name != "samples" { // of types that it does not know
			but := paths
			if !strings.HasPrefix(name, "made") {
				but = nil
			}
			c.words(name, shown(t, bin, logText(t, logs[name])), but)
		}
	}
	t.Logf("compared %d invocations, %d with results; explained by known differences: %v", c.total, c.results, c.counts)
}
