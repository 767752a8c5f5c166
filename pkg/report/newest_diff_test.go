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
			logs[fmt.Sprint("made", i)] = writeLog(t, madelog.Log(r, 100))
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
		text := builtMachines(string(b))
		l, decisions := readLog(t, writeLog(t, text)), readLog(t, writeLog(t, onlyFirst(text)))
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
			log := l
			if slices.Contains(args, "-a") || slices.Contains(args, "--avc") {
				log = decisions
			}
			diff := log.compare(t, bin, args, counts)
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
	stock      string                  // what is in its output, and not in ours
	ours       string                  // the other way round
	without    func(log string) string // nil where only reports of decisions have it, see onlyFirst
}{
	{
		name: "names-in-tail", what: "with -i, users have the names that this machine's accounts have, whatever the record's host has added",
		args:  []string{"-c", "-i"},
		log:   "type=CONFIG_CHANGE msg=audit(1700000000.123:45): auid=4711 ses=1 op=x res=1\x1dAUID=\"alice\"\n",
		stock: "unknown(4711)", ours: "alice",
		without: func(log string) string { return regexp.MustCompile("\x1d[^\n]*").ReplaceAllString(log, "") },
	},
	{
		name: "first-decision", what: "of an event with several AVC records, only the first is in -a, and one is unset where a record before it said the result; here and in 3.0.9 all are, each with its decision",
		args:  []string{"-a"},
		log:   decision("granted") + decision("denied"),
		stock: "granted 45\n\n", ours: "denied 45\n",
	},
}

func decision(what string) string {
	return "type=AVC msg=audit(1700000000.123:45): avc:  " + what +
		` { read } for  pid=1 comm="x" path="/srv/x" dev="sda1" ino=5 scontext=a:b:c tcontext=a:b:c tclass=file` + "\n"
}

// onlyFirst takes out the AVC records that are not the first record of their event.
func onlyFirst(log string) string {
	seen := map[string]bool{}
	var w strings.Builder
	for line := range strings.Lines(log) {
		head, _, _ := strings.Cut(line, "): ")
		node, _, _ := strings.Cut(head, "type=")
		_, stamp, _ := strings.Cut(head, "msg=")
		if strings.Contains(head, "type=AVC ") && seen[node+stamp] {
			continue
		}
		seen[node+stamp] = true
		w.WriteString(line)
	}
	return w.String()
}

// builtMachines takes away the machines that not every build of the newest knows, and what
// known differences are about.
func builtMachines(log string) string {
	for _, d := range newestDifferences {
		if d.without != nil {
			log = d.without(log)
		}
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
