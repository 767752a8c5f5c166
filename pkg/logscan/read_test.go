package logscan

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/event"
)

const testLogs = "../search/testdata/"

func listed(t testing.TB, logs *Logs, cfg Config) (text string, events int, err error) {
	t.Helper()
	var out strings.Builder
	err = Scan(t.Context(), logs, cfg, newKeeper, func(list []*event.Event) error {
		for _, ev := range list {
			events++
			for i := range ev.Records {
				out.Write(append(ev.Records[i].Raw, '\n'))
			}
		}
		return nil
	})
	return out.String(), events, err
}

// rawOf is the records of all events of logs, and how many events there are.
func rawOf(t testing.TB, cfg Config, logs ...io.Reader) (string, int) {
	t.Helper()
	text, events, err := listed(t, &Logs{readers: logs}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return text, events
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
			skipped := 0
			out, found := rawOf(t, Config{Skipped: func([]byte, error) { skipped++ }}, strings.NewReader(log))
			if !strings.Contains(out, good+"\n") || !strings.Contains(out, ":46)") {
				t.Errorf("the good records are gone: %q", out)
			}
			if got := strings.Contains(out, c.line+"\n"); c.line != "" && got != c.found {
				t.Errorf("found: %v, want %v (%d events): %q", got, c.found, found, out)
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
		out, found := rawOf(t, Config{}, strings.NewReader(good+long+"\n"+good))
		if want := min(len(long), maxLine); found != 3 && found != 2 || !strings.Contains(out, long[:want]+"\n"+good) && n < maxLine {
			t.Errorf("%d bytes more: %d events, %d bytes", n, found, len(out))
		}
		if got := strings.Count(out, good); got != 2 {
			t.Errorf("%d bytes more: %d of the 2 short records", n, got)
		}
	}
}

// TestReadInPieces checks that how the reads fall makes no difference.
func TestReadInPieces(t *testing.T) {
	b, err := os.ReadFile(testLogs + "kernel-node.log")
	if err != nil {
		t.Fatal(err)
	}
	b = bytes.Repeat(b, 20) // several chunks
	r := rand.New(rand.NewPCG(3, 4))
	whole, _ := rawOf(t, Config{}, bytes.NewReader(b))
	pieces, _ := rawOf(t, Config{}, &choppy{b, r})
	if whole != pieces {
		t.Errorf("%d bytes in pieces, %d at once", len(pieces), len(whole))
	}
	if len(whole) != len(b) {
		t.Errorf("%d bytes of %d came back", len(whole), len(b))
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

// stamped is a record of 1700000000.123:45.
func stamped(typ, body string) string {
	return "type=" + typ + " msg=audit(1700000000.123:45): " + body
}
