package report

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// TestKnownDifferences shows each of them with the stock tool.
func TestKnownDifferences(t *testing.T) {
	bin := need.Stock(t, "aureport")
	for _, d := range knownDifferences {
		t.Run(d.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "audit.log")
			if err := os.WriteFile(path, []byte(strings.Join(d.record, "\n")+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			args := append([]string{"-if", path}, d.args...)
			stock, ours := runStock(t, bin, args...), runOurs(args...)
			if !strings.Contains(stock.out, d.stock) || d.stock != "" && strings.Contains(ours.out, d.stock) {
				t.Errorf("only stock should have %q\nstock: %q\nours:  %q", d.stock, stock.out, ours.out)
			}
			if !strings.Contains(ours.out, d.ours) || strings.Contains(stock.out, d.ours) {
				t.Errorf("only ours should have %q\nstock: %q\nours:  %q", d.ours, stock.out, ours.out)
			}
			if d.applies != nil && !appliesTo(t, &d, path) {
				t.Error("the difference does not apply to its own example")
			}
		})
	}
}

// appliesTo says whether some event of a log is a case of a difference.
func appliesTo(t *testing.T, d *difference, path string) bool {
	t.Helper()
	o, err := ParseArgs(d.args, utcEnv)
	if err != nil {
		t.Fatal(err)
	}
	for _, ev := range readLog(t, path).byID {
		if d.applies(o, ev) {
			return true
		}
	}
	return false
}

func hasDecision(ev *event.Event) bool {
	return anyRecord(ev, func(_ []record.Record, r *record.Record) bool {
		return r.Type == tables.AVC || r.Type == tables.UserAVC
	})
}

func resultOf(ev *event.Event) outcome {
	f := facts{}
	f.read(ev, 0)
	return f.outcome
}

// resultsDiffer says whether the records of an event say different results. It may be
// several events: one that has ended can go on.
func resultsDiffer(ev *event.Event) bool {
	said := map[outcome]bool{}
	for i := range ev.Records {
		said[resultOf(&event.Event{Records: ev.Records[i : i+1]})] = true
	}
	return said[failed] && said[succeeded]
}

// TestDifferencesAreListed keeps DIFFERENCES.md whole.
func TestDifferencesAreListed(t *testing.T) {
	b, err := os.ReadFile("DIFFERENCES.md")
	if err != nil {
		t.Fatal(err)
	}
	b, _, _ = bytes.Cut(b, []byte("\n## And 4.2.2")) // newestDifferences are there
	for _, d := range knownDifferences {
		if !bytes.Contains(b, []byte("\n| "+d.name+" | ")) {
			t.Errorf("DIFFERENCES.md does not list %s (%s)", d.name, d.what)
		}
	}
	b, _, _ = bytes.Cut(b, []byte("\n## ")) // what follows is of other tests
	if rows := bytes.Count(b, []byte("\n| ")) - 1; rows != len(knownDifferences) {
		t.Errorf("DIFFERENCES.md has %d rows for %d known differences", rows, len(knownDifferences))
	}
}

// TestLikeStock compares what generated command lines do not have: wrong ones,
// inputs that are missing, folders and logs without an event.
func TestLikeStock(t *testing.T) {
	bin := need.Stock(t, "aureport")
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	older := strings.ReplaceAll(stamped("SYSCALL", exampleCall)+"\n", "1700000000.123:45", "1600000000.001:7")
	log := write("audit.log", stamped("SYSCALL", exampleCall)+"\n")
	write("audit.log.1", older)
	empty := write("empty", "")
	damaged := write("damaged", "\x00\xff\ntype=SYSCALL msg=audit(\ntype=PATH msg=audit(1700000000.123:43)\n"+
		strings.Repeat("x", 20000)+"\n"+strings.Replace(stamped("SYSCALL", exampleCall[:60]), ":45)", ":44)", 1)+"\n"+stamped("SYSCALL", exampleCall)+"\n")
	for _, args := range [][]string{
		{"--nonsense"}, {"-f", "name"}, {"-k", "key"}, {"-e", "1"}, {"-l", "x"}, {"-i", "x"}, {"-f", "-k"}, {"-ts"}, {"-te"}, {"--node"},
		{"-if"}, {"-if", strings.Repeat("x", 4096)}, {"--escape"}, {"--escape", "html"}, {"--eoe-timeout"}, {"--eoe-timeout", "x"},
		{"--eoe-timeout", "0"}, {"-ts", "checkpoint"}, {"-ts", "never"}, {"-te", "13/40/23"}, {"-ts", "11/14/23", "25:00"}, {"-n", "y"},
		{"-if", filepath.Join(dir, "missing")}, {"-if", filepath.Join(dir, "missing"), "-x", "--summary"}, {"-if", t.TempDir(), "-k"},
		{"-if", dir}, {"-if", dir, "-f"}, {"-if", dir, "-x", "--summary", "-i"}, {"-if", empty}, {"-if", empty, "-t"}, {"-if", empty, "-e"},
		{"-if", empty, "-e", "--summary"}, {"-if", empty, "--failed", "--summary"}, {"-if", log, "--tty", "--summary"}, {"-if", log, "-t"},
		{"-if", log, "-t", "--summary", "--success"}, {"-if", log, "--summary", "-x", "--failed"}, {"-if", log, "-x", "-te", "now"},
		{"-if", log, "-ts", "11/14/23", "22:13:20", "-x"}, {"-if", log, "-ts", "22:13:20", "11/14/23", "-x"}, {"-if", log, "-ts", "today", "-x"},
		{"-if", damaged, "-x"}, {"-if", damaged, "-x", "--summary"},
	} {
		stock, ours := runStock(t, bin, args...), runOurs(args...)
		ours.stderr, stock.stderr = meaning(ours.stderr), meaning(stock.stderr)
		if stock != ours {
			t.Errorf("aureport %.200q\nstock: %+v\nours:  %+v", args, stock, ours)
		}
	}
}

// meaning is a complaint without what differs in the wording of errors: the case
// of the system's, the name of what is missing, and our advice.
func meaning(stderr string) string {
	first, _, _ := strings.Cut(stderr, "\n  ") // what would do, which is ours
	text := strings.ToLower(strings.TrimSuffix(first, "\n"))
	if strings.HasPrefix(text, "stat: ") {
		return "stat: " + text[strings.LastIndex(text, ": ")+2:]
	}
	return text
}
