package search

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
)

// spread makes a log of n events that are up to two seconds apart and mixed.
func spread(r *rand.Rand, n int) []string {
	type line struct {
		at   float64
		text string
	}
	var lines []line
	ms := int64(1700000000000)
	for i := range n {
		ms += int64(r.IntN(1500))
		node := ""
		if r.IntN(5) == 0 {
			node = "node=web1 "
		}
		at := float64(ms)
		add := func(typ, body string) {
			lines = append(lines, line{at, fmt.Sprintf("%stype=%s msg=audit(%d.%03d:%d): %s", node, typ, ms/1000, ms%1000, i+1, body)})
			at += r.Float64() * 1200
		}
		switch r.IntN(4) {
		case 0:
			add("USER_AUTH", "pid=1 uid=0 auid=0 ses=1 msg='op=x res=success'")
		case 1:
			add("SYSCALL", exampleCall)
		default:
			add("SYSCALL", exampleCall)
			add("CWD", `cwd="/"`)
			add("PROCTITLE", "proctitle=61")
			if r.IntN(2) == 0 {
				add("EOE", "")
			}
		}
	}
	slices.SortStableFunc(lines, func(a, b line) int { return int(a.at - b.at) })
	out := make([]string, len(lines))
	for i := range lines {
		out[i] = lines[i].text + "\n"
	}
	return out
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestCheckpointSameAsStock lets a log grow, and the stock tool and ours go on from the
// same checkpoint, which is that of either. Ours prints what stock does, but for what it
// has printed before, and then what is not complete and may be printed.
func TestCheckpointSameAsStock(t *testing.T) {
	t.Parallel()
	bin := need.Stock(t, "ausearch")
	seed := need.Seed(t)
	rounds, runs, printed := need.Rounds(60, 4), 0, 0
	for round := range rounds {
		r := rand.New(rand.NewPCG(seed, uint64(round)))
		dir := t.TempDir()
		log, ck := filepath.Join(dir, "audit.log"), filepath.Join(dir, "checkpoint")
		input := log
		if round%2 == 1 {
			input = dir // with rotation
		}
		lines := spread(r, 60)
		for len(lines) > 0 {
			n := min(1+r.IntN(40), len(lines))
			if round%2 == 1 && r.IntN(3) == 0 && readFile(t, log) != "" {
				rotate(t, log)
				n = len(lines) // so that an event of the newest log is complete
			}
			writeFile(t, log, readFile(t, log)+strings.Join(lines[:n], ""))
			lines = lines[n:]
			args := []string{"-if", input, "--checkpoint", ck, oneOf(r, "-r", "-i", "--format=csv")}
			if args[4] == "--format=csv" {
				args = append(args[:4], "--format", "csv")
			}
			if r.IntN(6) == 0 {
				args = append(args, "--start", "checkpoint")
			}
			before := readFile(t, ck)
			stock := runStock(t, bin, nil, args...)
			stockAfter := readFile(t, ck)
			if err := os.Remove(ck); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			if before != "" {
				writeFile(t, ck, before)
			}
			ours := runOurs(busyEnv(t, log), args...)
			after := readFile(t, ck)
			runs++
			if stock.code == codeMissing && before != stockAs(before) && ours.code <= 1 && ours.stderr == strings.Repeat("<no matches>\n", ours.code) {
				continue // by its number among the log's events ours finds what stock sees too late
			}
			if samePlace(stockAfter) != samePlace(after) || stockAs(stockAfter) != stockAs(after) && input == log {
				t.Fatalf("round %d: ausearch %q from %q:\nstock: %q\n ours: %q", round, args, before, stockAfter, after)
			}
			// What it prints more than stock may be what csv has no line for.
			more, ok := strings.CutPrefix(strings.TrimSuffix(ours.stderr, "<no matches>\n"), strings.TrimSuffix(stock.stderr, "<no matches>\n"))
			for line := range strings.Lines(more) {
				ok = ok && strings.HasPrefix(line, "error normalizing ")
			}
			if !ok || (ours.code == 1) != (ours.out == "") || (ours.code > 1 || stock.code > 1) && ours != stock {
				t.Fatalf("round %d: ausearch %q from %q:\nstock: %d %q\n ours: %d %q", round, args, before, stock.code, stock.stderr, ours.code, ours.stderr)
			}
			if before == stockAs(before) && !strings.HasPrefix(ours.out, stock.out) {
				t.Fatalf("round %d: ausearch %q from %q:\nstock: %q\n ours: %q", round, args, before, stock.out, ours.out)
			}
			if r.IntN(3) == 0 { // goes on from its file
				writeFile(t, ck, stockAfter)
			}
			if stock.out != "" {
				printed++
			}
		}
	}
	t.Logf("compared %d runs, %d that printed something", runs, printed)
	if printed < runs/4 {
		t.Errorf("only %d of %d runs printed anything", printed, runs)
	}
}

// stockAs is what the stock tool reads of a checkpoint's file.
func stockAs(checkpoint string) string {
	var out []string
	for line := range strings.Lines(checkpoint) {
		if strings.HasPrefix(line, "inode=") {
			line, _, _ = strings.Cut(strings.TrimSuffix(line, "\n"), " ")
			line += "\n"
		}
		if !slices.Contains(out, line) {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

// samePlace leaves out in which log the event is: of several, the stock tool always
// names the newest.
func samePlace(checkpoint string) string {
	lines := strings.Split(stockAs(checkpoint), "\n")
	return strings.Join(slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "inode=") }), "\n")
}

// rotate makes room for a new log.
func rotate(t *testing.T, log string) {
	t.Helper()
	for n := 8; n >= 0; n-- {
		from := log
		if n > 0 {
			from = fmt.Sprintf("%s.%d", log, n)
		}
		if err := os.Rename(from, fmt.Sprintf("%s.%d", log, n+1)); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

// TestCheckpointErrors gives both the same bad checkpoints.
func TestCheckpointErrors(t *testing.T) {
	bin := need.Stock(t, "ausearch")
	log := writeLog(t, strings.Join(spread(rand.New(rand.NewPCG(1, 2)), 20), ""))
	for _, c := range []struct {
		name, text string
		code       int
	}{
		{"empty", "", 10},
		{"nonsense", "what\n", 10},
		{"no inode", "dev=0x1\noutput=- 1700000000.000:1 0x514\n", 10},
		{"no output", "dev=0x1\ninode=2\n", 0},
		{"nothing yet", "dev=0x1\ninode=2\noutput=- 0.000:0 0x0\n", 0},
		{"no time", "dev=0x1\ninode=2\noutput=- x 0x514\n", 10},
		{"no space", "dev=0x1\ninode=2\noutput=-\n", 10},
		{"no type", "dev=0x1\ninode=2\noutput=- 1700000000.000:1\n", 10},
		{"not there", "dev=0x1\ninode=2\noutput=- 1600000000.000:1 0x514\n", 12},
		{"of a store", hostsLine + "\noutput=- 1600000000.000:1 0x514\n", 10},
		{"large numbers", "dev=0xFFFFFFFFFFFFFFFFFF\ninode=99999999999999999999\n", 10},
		{"in the future", "dev=0x1\ninode=2\noutput=web1 1900000000.000:1 0x514\n", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			ck := filepath.Join(t.TempDir(), "ck")
			var got [2]ran
			var left [2]string
			for i := range got {
				writeFile(t, ck, c.text)
				args := []string{"-if", log, "--checkpoint", ck, "-r"}
				if i == 0 {
					got[i] = runStock(t, bin, nil, args...)
				} else {
					got[i] = runOurs(busyEnv(t, log), args...)
				}
				left[i] = stockAs(readFile(t, ck))
			}
			if got[0].code != c.code || got[1].code != c.code {
				t.Errorf("exit %d, stock's %d, want %d (%s)", got[1].code, got[0].code, c.code, got[1].stderr)
			}
			if !strings.HasPrefix(got[1].out, got[0].out) || left[0] != left[1] {
				t.Errorf("stock: %q %q\nours: %q %q", got[0].out, left[0], got[1].out, left[1])
			}
			if (got[0].stderr == "") != (got[1].stderr == "") {
				t.Errorf("stderr %q, stock's %q", got[1].stderr, got[0].stderr)
			}
		})
	}
	t.Run("cannot be written", func(t *testing.T) {
		args := []string{"-if", log, "--checkpoint", filepath.Join(t.TempDir(), "none", "ck"), "-r"}
		stock, ours := runStock(t, bin, nil, args...), runOurs(utcEnv, args...)
		if stock.code != 11 || ours.code != 11 || !strings.HasPrefix(ours.out, stock.out) {
			t.Errorf("exit %d, stock's %d: %s", ours.code, stock.code, ours.stderr)
		}
	})
	t.Run("log is gone", func(t *testing.T) {
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, "audit.log"), readFile(t, log))
		ck := filepath.Join(dir, "ck")
		writeFile(t, ck, "dev=0x1\ninode=2\noutput=- 1700000000.000:1 0x514\n")
		args := []string{"-if", dir, "--checkpoint", ck, "-r"}
		stock, ours := runStock(t, bin, nil, args...), runOurs(utcEnv, args...)
		if stock.code != 10 || ours.code != 10 {
			t.Errorf("exit %d, stock's %d, want 10", ours.code, stock.code)
		}
		args = append(args, "--start", "checkpoint")
		stock = runStock(t, bin, nil, args...)
		after := readFile(t, ck)
		writeFile(t, ck, "dev=0x1\ninode=2\noutput=- 1700000000.000:1 0x514\n")
		ours = runOurs(utcEnv, args...)
		if stock.code != 0 || ours.code != 0 || ours.stderr != stock.stderr || !strings.HasPrefix(ours.out, stock.out) || samePlace(readFile(t, ck)) != samePlace(after) {
			t.Errorf("with --start checkpoint: %+v, stock's %+v", ours, stock)
		}
	})
}

// checkpointDifferences are searches with a checkpoint in which the stock tool
// prints nothing or refuses to go on, and ours does what its manual says.
var checkpointDifferences = []struct {
	name, what string
	args       []string
	first      string // the log at the first search
	second     string // and what is appended then
	quiet      bool   // the log is not written to before the second search
	code       int    // stock's of the second search
	stock      string // what it prints then
	want       string // what ours prints
}{
	{
		name:   "checkpoint-of-others",
		what:   "the event of the checkpoint is only found among those that are searched for, so a search by key is soon refused",
		args:   []string{"-k", "k"},
		first:  callAt(1700000000, 1, "k") + callAt(1700000001, 2, "other") + callAt(1700000010, 3, "other"),
		second: callAt(1700000020, 4, "k") + callAt(1700000040, 5, "other"),
		code:   12,
		want:   callAt(1700000020, 4, "k"),
	},
	{
		name:   "checkpoint-just-one",
		what:   "--just-one prints the first event each time",
		args:   []string{"--just-one"},
		first:  callAt(1700000000, 1, "k") + callAt(1700000010, 2, "k") + callAt(1700000020, 3, "k"),
		second: "",
		stock:  callAt(1700000000, 1, "k"),
		want:   callAt(1700000010, 2, "k"),
	},
	{
		name:   "checkpoint-last",
		what:   "what is not two seconds older than the log's last event is held back, on a quiet log for ever",
		args:   []string{"-k", "k"},
		first:  callAt(1700000000, 1, "k") + callAt(1700000010, 2, "k"),
		second: "",
		quiet:  true,
		code:   1,
		want:   callAt(1700000010, 2, "k"),
	},
}

func callAt(sec int, serial int, key string) string {
	return fmt.Sprintf("type=SYSCALL msg=audit(%d.000:%d): %s\n", sec, serial, strings.Replace(exampleCall, `key="k"`, `key="`+key+`"`, 1))
}

func TestCheckpointDifferences(t *testing.T) {
	bin := need.Stock(t, "ausearch")
	for _, d := range checkpointDifferences {
		t.Run(d.name, func(t *testing.T) {
			var second [2]ran
			for i := range second {
				log := writeLog(t, d.first)
				args := append([]string{"-if", log, "--checkpoint", filepath.Join(t.TempDir(), "ck"), "-r"}, d.args...)
				run := func(env Env) ran {
					if i == 0 {
						return runStock(t, bin, nil, args...)
					}
					return runOurs(env, args...)
				}
				if got := run(busyEnv(t, log)); got.code != 0 {
					t.Fatalf("exit %d: %s", got.code, got.stderr)
				}
				writeFile(t, log, d.first+d.second)
				env := busyEnv(t, log)
				if d.quiet {
					env = quietEnv(t, log)
				}
				second[i] = run(env)
			}
			if stock := second[0]; stock.code != d.code || stock.out != d.stock {
				t.Errorf("stock: exit %d, %q", stock.code, stock.out)
			}
			if ours := second[1]; ours.code != 0 || ours.out != d.want {
				t.Errorf("ours: exit %d, %q, want %q", ours.code, ours.out, d.want)
			}
		})
	}
	b, err := os.ReadFile("DIFFERENCES.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range checkpointDifferences {
		if !bytes.Contains(b, []byte("\n| "+d.name+" | ")) {
			t.Errorf("DIFFERENCES.md does not list %s (%s)", d.name, d.what)
		}
	}
}

// TestCheckpointInOlderLog goes on where the newest log had no complete event.
func TestCheckpointInOlderLog(t *testing.T) {
	dir := t.TempDir()
	log, ck := filepath.Join(dir, "audit.log"), filepath.Join(dir, "ck")
	args := []string{"-if", dir, "--checkpoint", ck, "-r"}
	first := callAt(1700000000, 1, "k") + callAt(1700000010, 2, "k")
	writeFile(t, log, first)
	if got := runOurs(busyEnv(t, log), args...); got.out != callAt(1700000000, 1, "k") {
		t.Fatalf("first: %+v", got)
	}
	rotate(t, log)
	writeFile(t, log, callAt(1700000011, 3, "k"))
	if got := runOurs(busyEnv(t, log), args...); got.code != 1 {
		t.Fatalf("nothing is complete yet: %+v", got)
	}
	writeFile(t, log, callAt(1700000011, 3, "k")+callAt(1700000030, 4, "k"))
	want := callAt(1700000010, 2, "k") + callAt(1700000011, 3, "k")
	if got := runOurs(busyEnv(t, log), args...); got.out != want {
		t.Fatalf("third: %+v, want %q", got, want)
	}
}

// FuzzCheckpoint reads anything, and what it can read comes back as it was.
func FuzzCheckpoint(f *testing.F) {
	f.Add([]byte("dev=0xFE00\ninode=5309215\noutput=- 1795338542.954:95423 0x45D\n"))
	f.Add([]byte("dev=0x1\ninode=2\noutput=web1 0.000:0 0x0\n"))
	f.Add([]byte("dev=0x1\ninode=2 first=00112233445566778899aabbccddeeff events=3\ninode=2 printed=00112233445566778899aabbccddeeff,00112233445566778899aabbccddeeff\noutput=- 0.000:0 0x0\n"))
	f.Add([]byte(hostsLine + "\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "ck")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		cp, err := loadCheckpoint(path)
		if err != nil {
			return
		}
		if err := cp.save(path); err != nil {
			t.Fatal(err)
		}
		again, err := loadCheckpoint(path)
		if err != nil || !reflect.DeepEqual(again, cp) {
			t.Fatalf("%+v came back as %+v: %v", cp, again, err)
		}
	})
}
