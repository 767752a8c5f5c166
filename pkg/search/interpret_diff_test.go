package search

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/search/reallog"
)

// noID is an id that is no number, which the stock tool takes for root
// (pkg/interpret/DIFFERENCES.md).
var noID = regexp.MustCompile(`id=\\?\?[^ \n]*`)

func normalWords(r ran) ran {
	r.out = noID.ReplaceAllString(r.out, "id=root")
	return r
}

// interpreted returns a random search with its result in words.
func (p *pool) interpreted(r *rand.Rand) []string {
	args := slices.DeleteFunc(p.query(r), func(a string) bool { return a == "-r" })
	if i := slices.Index(args, "--format"); i >= 0 {
		args = slices.Delete(args, i, i+2)
	}
	switch r.IntN(3) {
	case 0:
		args = append(args, "--format", "interpret")
	default:
		args = append(args, "-i")
	}
	if r.IntN(3) == 0 {
		args = append(args, "--escape", oneOf(r, "raw", "tty", "shell", "shell_quote"))
	}
	return args
}

func oneOf(r *rand.Rand, list ...string) string { return list[r.IntN(len(list))] }

// TestInterpretSameAsStock compares what searches print in words: all of every
// log, and generated searches.
func TestInterpretSameAsStock(t *testing.T) {
	bin := need.Stock(t, "ausearch")
	logs := diffLogs(t)
	if !testing.Short() {
		enriched := reallog.Record(t, reallog.Config{Enriched: true, Node: "now1"})
		raw := bytes.ReplaceAll(regexp.MustCompile("\x1d.*").ReplaceAll(enriched, nil), []byte("node=now1 "), nil)
		for name, log := range map[string][]byte{"now-enriched": enriched, "now-raw": raw} {
			logs[name] = filepath.Join(t.TempDir(), name+".log")
			if err := os.WriteFile(logs[name], log, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	seed := need.Seed(t)
	rounds, total, nonEmpty, events := 40, 0, 0, 0
	if testing.Short() {
		rounds = 10
	}
	counts := map[string]int{}
	names := make([]string, 0, len(logs))
	for name := range logs {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		p := poolOf(eventsOf(t, logs[name]))
		queries := [][]string{{"-i"}, {"--format", "interpret", "--escape", "raw"}, {"-i", "--escape", "shell_quote"}}
		for range rounds {
			queries = append(queries, p.interpreted(r))
		}
		for _, q := range queries {
			args := append([]string{"-if", logs[name]}, q...)
			stock, ours := normalWords(runStock(t, bin, nil, args...)), normalWords(runOurs(utcEnv, args...))
			total++
			if stock.out != "" {
				nonEmpty++
				events += strings.Count(stock.out, "----\n")
			}
			if diff := compare(args, stock, ours, counts); diff != "" {
				t.Fatalf("ausearch %q: %s", args, diff)
			}
		}
	}
	t.Logf("compared %d invocations, %d with results, %d events; events explained by known differences: %v", total, nonEmpty, events, counts)
	if nonEmpty < total/10 {
		t.Errorf("only %d of %d searches found anything: they show little", nonEmpty, total)
	}
}

// TestInterpretDates writes dates as the locale does, and the time in its zone.
func TestInterpretDates(t *testing.T) {
	const log = "type=USER_AUTH msg=audit(1700000000.007:45): pid=1 res=1\n"
	for _, c := range []struct{ locale, want string }{
		{"C", "11/14/23 23:13:20.007:45"}, {"de_DE.UTF-8", "14.11.2023 23:13:20.007:45"}, {"en_DK", "2023-11-14 23:13:20.007:45"},
		{"bg_BG", "14.11.2023 23:13:20.007:45"}, {"xx_YY", "11/14/23 23:13:20.007:45"}, {"ja_JP.UTF-8", "2023年11月14日 23:13:20.007:45"},
	} {
		zone := time.FixedZone("CET", 3600)
		o, err := ParseArgs([]string{"-i"}, Env{Locale: c.locale, Location: zone})
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		w, err := NewWriter(&out, o, zone)
		if err != nil {
			t.Fatal(err)
		}
		for ev, err := range Read(ReadConfig{}, strings.NewReader(log)) {
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Event(ev); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if want := "----\ntype=USER_AUTH msg=audit(" + c.want + ") : pid=1 res=yes \n"; out.String() != want {
			t.Errorf("%s: got %q, want %q", c.locale, out.String(), want)
		}
	}
}

// FuzzInterpretWriter writes whatever a log holds.
func FuzzInterpretWriter(f *testing.F) {
	f.Add([]byte("node=a type=SYSCALL msg=audit(1.002:3): arch=c000003e syscall=59 a0=1\x1dARCH=x86_64\ntype=EOE msg=audit(1.002:3): \n"))
	f.Add([]byte("type=DAEMON_START msg=audit(1.002:3): op=start auid=?\nnonsense\ntype=X msg=audit(9999999999.999:9):y=\n"))
	f.Fuzz(func(t *testing.T, log []byte) {
		o := &Options{Format: FormatInterpret}
		var out bytes.Buffer
		w, err := NewWriter(&out, o, time.UTC)
		if err != nil {
			t.Fatal(err)
		}
		events := 0
		for ev, err := range Read(ReadConfig{}, bytes.NewReader(log)) {
			if err != nil {
				break
			}
			if err := w.Event(ev); err != nil {
				t.Fatal(err)
			}
			events++
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if got := bytes.Count(out.Bytes(), []byte("----\n")); got < events {
			t.Errorf("%d events came out as %d", events, got)
		}
	})
}

func BenchmarkInterpretFormat(b *testing.B) {
	events := eventsOf(b, "testdata/kernel-raw.log")
	size := 0
	for _, ev := range events {
		for i := range ev.Records {
			size += len(ev.Records[i].Raw) + 1
		}
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	w := newInterpretFormat(&Options{}, time.UTC)
	var text []byte
	for b.Loop() {
		for _, ev := range events {
			text = w.Append(text[:0], ev)
		}
	}
}
