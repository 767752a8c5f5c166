package report

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/search/madelog"
)

// TestSameAsNewest compares reports with those of an aureport 4.2.2 that the caller has
// built.
func TestSameAsNewest(t *testing.T) {
	bin := need.Newest(t, "aureport")
	seed := need.Seed(t)
	logs := need.Logs(t)
	if len(logs) == 0 {
		for _, name := range []string{"search/testdata/kernel-raw", "search/testdata/kernel-node", "search/testdata/types", "search/testdata/fleet"} {
			logs[name] = need.Source(t, "pkg/"+name+".log")
		}
		for i := range need.Rounds(10, 2) {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			logs[fmt.Sprint("made", i)] = writeLog(t, regexp.MustCompile("(?m)^.*type=AVC .*\n").ReplaceAllString(madelog.Log(r, 100), ""))
		}
	}
	names := make([]string, 0, len(logs))
	for name := range logs {
		names = append(names, name)
	}
	slices.Sort(names)
	counts, told, total := map[string]int{}, map[string]bool{}, 0
	for i, name := range names {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		b, err := os.ReadFile(logs[name])
		if err != nil {
			t.Fatal(err)
		}
		l := readLog(t, writeLog(t, builtMachines(string(b))))
		var all [][]string
		for _, k := range kinds() {
			for _, more := range [][]string{nil, {"-i"}, {"--summary"}, {"--summary", "-i"}} {
				all = append(all, slices.Concat(k, more))
			}
		}
		for range need.Rounds(40, 8) {
			all = append(all, command(r, l.secs, l.nodes))
		}
		for _, args := range all {
			total++
			diff := l.compare(t, bin, args, counts)
			if diff == "" {
				continue
			}
			if kind := strings.Join(slices.DeleteFunc(slices.Clone(args), func(a string) bool { return !strings.HasPrefix(a, "-") }), " "); told[kind] {
				continue
			}
			told[strings.Join(slices.DeleteFunc(slices.Clone(args), func(a string) bool { return !strings.HasPrefix(a, "-") }), " ")] = true
			t.Errorf("%s: aureport %q: %.1200s", name, args, diff)
			if len(told) > 30 {
				t.Fatal("too many differences")
			}
		}
	}
	t.Logf("compared %d invocations; explained by known differences: %v", total, counts)
}

// newestDifferences are the places where aureport 4.2.2 prints something else than we do,
// and we keep to ours: what a log is compared without.
var newestDifferences = []struct {
	name, what string
	args       []string
	log        string
	stock      string // what is in its output, and not in ours
	ours       string // the other way round
	without    func(log string) string
}{
	{
		name: "names-in-tail", what: "with -i, users have the names that this machine's accounts have, whatever the record's host has added",
		args:  []string{"-c", "-i"},
		log:   "type=CONFIG_CHANGE msg=audit(1700000000.123:45): auid=4711 ses=1 op=x res=1\x1dAUID=\"alice\"\n",
		stock: "unknown(4711)", ours: "alice",
		without: func(log string) string { return regexp.MustCompile("\x1d[^\n]*").ReplaceAllString(log, "") },
	},
	{
		name: "first-decision", what: "of an event with several AVC records, only the first is in -a, and its result is the event's; here and in 3.0.9 all are, and the last one's is",
		args:  []string{"-a"},
		log:   decision("granted") + decision("denied"),
		stock: "granted 45\n\n", ours: "denied 45\n",
		without: withoutSecond,
	},
}

func decision(what string) string {
	return "type=AVC msg=audit(1700000000.123:45): avc:  " + what +
		` { read } for  pid=1 comm="x" path="/srv/x" dev="sda1" ino=5 scontext=a:b:c tcontext=a:b:c tclass=file` + "\n"
}

// withoutSecond takes out all AVC records of an event but the first. Made logs have none:
// system calls without a result stand beside them.
func withoutSecond(log string) string {
	seen := map[string]bool{}
	var w strings.Builder
	for line := range strings.Lines(log) {
		if head, _, ok := strings.Cut(line, "): avc:"); ok {
			if seen[head] {
				continue
			}
			seen[head] = true
		}
		w.WriteString(line)
	}
	return w.String()
}

// builtMachines takes away the machines that not every build of the newest knows, and what
// known differences are about.
func builtMachines(log string) string {
	for _, d := range newestDifferences {
		log = d.without(log)
	}
	return strings.NewReplacer("arch=deadbeef", "arch=c0000015", "arch=c00000b7", "arch=c0000015").Replace(log)
}

// TestNewestDifferences shows each of them with the newest.
func TestNewestDifferences(t *testing.T) {
	bin := need.Newest(t, "aureport")
	for _, d := range newestDifferences {
		t.Run(d.name, func(t *testing.T) {
			args := append([]string{"-if", writeLog(t, d.log)}, d.args...)
			stock, ours := runStock(t, bin, args...), runOurs(args...)
			if !strings.Contains(stock.out+"\n", d.stock) || strings.Contains(ours.out+"\n", d.stock) || !strings.Contains(ours.out, d.ours) || strings.Contains(stock.out, d.ours) {
				t.Errorf("only stock should print %q, only ours %q:\nstock: %q\n ours: %q", d.stock, d.ours, stock.out, ours.out)
			}
		})
	}
}

// TestNewestDifferencesAreListed keeps DIFFERENCES.md whole.
func TestNewestDifferencesAreListed(t *testing.T) {
	b, err := os.ReadFile("DIFFERENCES.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(b), "\n## And 4.2.2\n")
	if !ok {
		t.Fatal("DIFFERENCES.md has no part about 4.2.2")
	}
	for _, d := range newestDifferences {
		if !strings.Contains(text, "\n| "+d.name+" | ") {
			t.Errorf("DIFFERENCES.md does not list %s (%s)", d.name, d.what)
		}
	}
	if rows := strings.Count(text, "\n| ") - 1; rows != len(newestDifferences) {
		t.Errorf("DIFFERENCES.md has %d rows for %d differences", rows, len(newestDifferences))
	}
}

func writeLog(t testing.TB, log string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "audit.log")
	if err := os.WriteFile(path, []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
