package search

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
)

// disordered returns the log's lines as a writer that races itself, a lost disk
// or a clock set back would leave them: all lines whole, their order not.
func disordered(r *rand.Rand, lines []string) []string {
	lines = append([]string(nil), lines...)
	for range len(lines) / 4 {
		i := r.IntN(len(lines))
		j := min(len(lines)-1, i+r.IntN(12))
		switch r.IntN(6) {
		case 0, 1, 2:
			lines[i], lines[j] = lines[j], lines[i]
		case 3:
			lines = append(lines[:i], lines[i+1:]...)
		case 4:
			lines = append(lines[:j], append([]string{lines[i]}, lines[j:]...)...)
		case 5:
			lines[i] = moved(r, lines[i])
		}
	}
	return lines
}

// moved changes the second in a record's header by a few.
func moved(r *rand.Rand, line string) string {
	head, rest, ok := strings.Cut(line, "msg=audit(")
	if !ok {
		return line
	}
	sec, rest, _ := strings.Cut(rest, ".")
	n, err := strconv.ParseInt(sec, 10, 64)
	if err != nil {
		return line
	}
	return head + "msg=audit(" + strconv.FormatInt(n+int64(r.IntN(9)-4), 10) + "." + rest
}

// TestOrderSameAsStock compares how records become events and in which order
// these come, on logs whose lines are mixed up.
func TestOrderSameAsStock(t *testing.T) {
	bin := need.Stock(t, "ausearch")
	seed := need.Seed(t)
	r := rand.New(rand.NewPCG(seed, 99))
	logs := diffLogs(t)
	rounds := 12
	if testing.Short() {
		rounds = 2
	}
	path := filepath.Join(t.TempDir(), "mixed.log")
	for _, name := range []string{"types", "fleet", "kernel-raw", "kernel-enriched"} {
		b, err := os.ReadFile(logs[name])
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.SplitAfter(strings.TrimSuffix(string(b), "\n"), "\n")
		lines[len(lines)-1] += "\n"
		lines = slices.DeleteFunc(lines, func(l string) bool { return strings.Contains(l, "apparmor=") }) // stock hides them
		for range rounds {
			mixed := strings.Join(disordered(r, lines), "")
			if err := os.WriteFile(path, []byte(mixed), 0o600); err != nil {
				t.Fatal(err)
			}
			args := []string{"-if", path, "-m", "ALL", "--eoe-timeout", strconv.Itoa(1 + r.IntN(4))}
			if r.IntN(2) == 0 {
				args = append(args, "-r")
			}
			stock, ours := runStock(t, bin, nil, args...), runOurs(utcEnv, args...)
			if diff := compare(args, stock, ours, map[string]int{}); diff != "" {
				keep := filepath.Join(os.TempDir(), "mixed-"+strconv.FormatUint(seed, 10)+".log")
				_ = os.WriteFile(keep, []byte(mixed), 0o600)
				t.Fatalf("%s: %q on %s: %.1500s", name, args, keep, diff)
			}
		}
	}
}

// TestDamagedLines shows what is still read of a log that is broken: all that
// has a time, in both; and that no damage ends the search.
func TestDamagedLines(t *testing.T) {
	good := stamped("USER", "pid=1 uid=0 auid=0 ses=1 msg='op=x res=success'")
	for _, c := range []struct {
		name, line string
		found      bool
	}{
		{"empty", "", false},
		{"binary", "\x00\x01\xff\xfe\x1d", false},
		{"no header", "type=USER pid=1", false},
		{"no time", "type=USER msg=audit(): pid=1", false},
		{"time is a word", "type=USER msg=audit(now:1): pid=1", false},
		{"cut in the seconds", "type=USER msg=audit(1700000000", true},
		{"cut in the milliseconds", "type=USER msg=audit(1700000000.1", true},
		{"cut in the serial", "type=USER msg=audit(1700000000.123:4", true},
		{"cut before the body", "type=USER msg=audit(1700000000.123:45):", true},
		{"cut in a quote", stamped("SYSCALL", `arch=c000003e comm="ca`), true},
		{"cut in hex", stamped("PATH", "name=2F74"), true},
		{"cut in the nested part", stamped("USER", "pid=1 uid=0 msg='op=x acct=\"b"), true},
		{"unknown type", "type=NEVER_HEARD msg=audit(1700000000.123:45): x=y", true},
		{"huge numbers", stamped("SYSCALL", "arch=fffffffffffffffff syscall=99999999999999999999 pid=99999999999999999999 exit=-99999999999999999999"), true},
		{"huge serial", "type=USER msg=audit(1700000000.123:99999999999999999999999): pid=1", true},
		{"huge time", "type=USER msg=audit(99999999999999999999.123:1): pid=1", false},
		{"far future", "type=USER msg=audit(99999999999.123:1): pid=1", true},
		{"socket too short", stamped("SOCKADDR", "saddr=02"), true},
		{"socket of no family", stamped("SOCKADDR", "saddr=FFFF000000000000"), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			log := good + "\n" + c.line + "\n" + strings.Replace(good, ":45", ":46", 1) + "\n"
			var out bytes.Buffer
			skipped := 0
			cfg := ReadConfig{Skipped: func([]byte, error) { skipped++ }}
			found, err := Run(t.Context(), &Options{Format: FormatRaw}, time.UTC, Read(cfg, strings.NewReader(log)), &out)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(out.String(), good+"\n") || !strings.Contains(out.String(), ":46)") {
				t.Errorf("the good records are gone: %q", out.String())
			}
			if got := strings.Contains(out.String(), c.line+"\n"); c.line != "" && got != c.found {
				t.Errorf("found: %v, want %v (%d events): %q", got, c.found, found, out.String())
			}
			if c.line != "" && (skipped == 1) == c.found {
				t.Errorf("%d lines said to be skipped", skipped)
			}
		})
	}
}

// TestLongLine checks that a line far beyond any record costs no memory and
// hides nothing behind it.
func TestLongLine(t *testing.T) {
	good := stamped("USER", "pid=1 uid=0 auid=0 ses=1 msg='op=x res=success'") + "\n"
	for _, n := range []int{maxLine - len(good), maxLine, chunkBytes - 10, chunkBytes, 5*chunkBytes + 7} {
		long := strings.TrimSuffix(strings.Replace(good, ":45", ":44", 1), "\n") + strings.Repeat("x", n)
		var out bytes.Buffer
		found, err := Run(t.Context(), &Options{Format: FormatRaw}, time.UTC, Read(ReadConfig{}, strings.NewReader(good+long+"\n"+good)), &out)
		if err != nil {
			t.Fatal(err)
		}
		if want := min(len(long), maxLine); found != 3 && found != 2 || !strings.Contains(out.String(), long[:want]+"\n"+good) && n < maxLine {
			t.Errorf("%d bytes more: %d events, %d bytes", n, found, out.Len())
		}
		if got := strings.Count(out.String(), good); got != 2 {
			t.Errorf("%d bytes more: %d of the 2 short records", n, got)
		}
	}
}

// TestReadInPieces checks that how the reads fall makes no difference.
func TestReadInPieces(t *testing.T) {
	b, err := os.ReadFile("testdata/kernel-node.log")
	if err != nil {
		t.Fatal(err)
	}
	b = bytes.Repeat(b, 20) // several chunks
	r := rand.New(rand.NewPCG(3, 4))
	var whole, pieces bytes.Buffer
	run := func(log interface{ Read([]byte) (int, error) }, out *bytes.Buffer) {
		if _, err := Run(t.Context(), &Options{Format: FormatRaw}, time.UTC, Read(ReadConfig{}, log), out); err != nil {
			t.Fatal(err)
		}
	}
	run(bytes.NewReader(b), &whole)
	run(&choppy{b, r}, &pieces)
	if !bytes.Equal(whole.Bytes(), pieces.Bytes()) {
		t.Errorf("%d bytes in pieces, %d at once", pieces.Len(), whole.Len())
	}
	if whole.Len() != len(b) {
		t.Errorf("%d bytes of %d came back", whole.Len(), len(b))
	}
}

type choppy struct {
	b []byte
	r *rand.Rand
}

func (c *choppy) Read(p []byte) (int, error) {
	n := copy(p, c.b[:min(len(c.b), 1+c.r.IntN(5000))])
	c.b = c.b[n:]
	if len(c.b) == 0 {
		return n, io.EOF
	}
	return n, nil
}

func FuzzParseArgs(f *testing.F) {
	for _, s := range []string{"-k\x00a", "-ts\x00today\x00-te\x00now", "-ul\x00-1", "-e\x00-EACCES", "-ts\x0001/02/26\x0010:00", "-m\x00A,,B", "--session\x00-1"} {
		f.Add(s, "en_US.UTF-8")
	}
	f.Fuzz(func(t *testing.T, s, locale string) {
		o, err := ParseArgs(strings.Split(s, "\x00"), Env{Location: time.UTC, Locale: locale, Now: time.Unix(1700000000, 0)})
		if (o == nil) == (err == nil) {
			t.Fatalf("%v %v", o, err)
		}
		if err == nil {
			NewMatcher(&o.Query).Match(oneEvent(t, stamped("SYSCALL", exampleCall)))
		}
	})
}

func FuzzExtract(f *testing.F) {
	for _, name := range []string{"types", "fleet", "kernel-node"} {
		b, err := os.ReadFile(filepath.Join("testdata", name+".log"))
		if err != nil {
			f.Fatal(err)
		}
		for i, line := range strings.Split(string(b), "\n") {
			if i%7 == 0 {
				f.Add([]byte(line))
			}
		}
	}
	f.Fuzz(func(t *testing.T, log []byte) {
		var x Extractor
		for ev, err := range Read(ReadConfig{}, bytes.NewReader(log)) {
			if err != nil {
				t.Fatal(err)
			}
			x.Extract(ev, func(field Field, v []byte) {
				// What the index holds must be found by its own words.
				q := &Query{Terms: []Term{{Fields: []Field{field}, Text: string(v)}}}
				if field != FieldType && !q.Match(ev) {
					t.Errorf("%s %q is not found in %q", field, v, ev.Records[0].Raw)
				}
			})
		}
	})
}
