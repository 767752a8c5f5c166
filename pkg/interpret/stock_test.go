package interpret

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/nss"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// stockBodies runs ausearch -i on one event for each record ("TYPE body") and
// returns what it printed behind their headers, "" for those it did not print.
// Events are three seconds apart: it keeps all that might go on in lists.
func stockBodies(t testing.TB, recs []string, args ...string) []string {
	t.Helper()
	bin := need.Stock(t, "ausearch")
	var log bytes.Buffer
	for i, rec := range recs {
		typ, body, _ := strings.Cut(rec, " ")
		fmt.Fprintf(&log, "type=%s msg=audit(%d.123:%d): %s\n", typ, firstSec+3*i, i+1, body)
	}
	path := filepath.Join(t.TempDir(), "audit.log")
	if err := os.WriteFile(path, log.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, append([]string{"-if", path, "-i"}, args...)...)
	cmd.Env = []string{"TZ=UTC", "LC_ALL=C", "PATH=/usr/bin:/bin"}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("ausearch: %v", err)
	}
	bodies := make([]string, len(recs))
	for block := range strings.SplitSeq(string(out), "----\n") {
		_, stamp, ok := strings.Cut(block, " msg=audit(")
		if !ok {
			continue
		}
		head, body, _ := strings.Cut(stamp, ") : ")
		_, serial, _ := strings.Cut(head[strings.IndexByte(head, '.'):], ":")
		n, err := strconv.Atoi(serial)
		if err != nil || n < 1 || n > len(recs) {
			t.Fatalf("ausearch printed %q", block)
		}
		bodies[n-1] = strings.TrimSuffix(body, "\n")
	}
	return bodies
}

const firstSec = 1400000000

func ourBody(in *Interpreter, rec string) string {
	typ, body, _ := strings.Cut(rec, " ")
	var r record.Record
	_ = r.Parse([]byte("type=" + typ + " msg=audit(1400000000.123:1): " + body))
	return string(in.AppendBody(nil, &r))
}

// TestSameAsStock compares thousands of generated records with what the stock
// tool prints for them, in every way of escaping.
func TestSameAsStock(t *testing.T) {
	seed := need.Seed(t)
	per := need.Rounds(2, 1)
	for i, c := range []struct {
		name   string
		make   func(r *rand.Rand) []string
		escape Escape
	}{
		{"syscalls", func(r *rand.Rand) []string { return syscallRecords(r, 2*per) }, EscapeTTY},
		{"arguments", func(r *rand.Rand) []string { return contextRecords(r, 150*per) }, EscapeTTY},
		{"fields", func(r *rand.Rand) []string { return fieldRecords(r, 40*per) }, EscapeTTY},
		{"fields raw", func(r *rand.Rand) []string { return fieldRecords(r, 10*per) }, EscapeRaw},
		{"fields shell", func(r *rand.Rand) []string { return fieldRecords(r, 10*per) }, EscapeShell},
		{"fields shell_quote", func(r *rand.Rand) []string { return fieldRecords(r, 10*per) }, EscapeShellQuote},
		{"types", func(*rand.Rand) []string { return typeRecords() }, EscapeTTY},
		{"tails", func(r *rand.Rand) []string { return tailRecords(r, 1000*per) }, EscapeTTY},
		{"addresses", func(r *rand.Rand) []string { return sockAddrRecords(r, 1000*per) }, EscapeTTY},
		{"keys", func(r *rand.Rand) []string { return ttyRecords(r, 1000*per) }, EscapeTTY},
	} {
		t.Run(c.name, func(t *testing.T) {
			recs := c.make(rand.New(rand.NewPCG(seed, uint64(i))))
			mode := [...]string{"tty", "raw", "shell", "shell_quote"}[c.escape]
			in := New(Config{Names: nss.New(nss.Config{}), Escape: c.escape})
			compareBodies(t, in, recs, stockBodies(t, recs, "--escape", mode))
		})
	}
}

func compareBodies(t *testing.T, in *Interpreter, recs, stock []string) {
	t.Helper()
	compared, bad, known := 0, 0, map[string]int{}
	for i, want := range stock {
		if want == "" {
			continue // not an event to the stock tool, or nothing in it
		}
		compared++
		got := ourBody(in, recs[i])
		if got == want {
			continue
		}
		var name string
		if got, want := ourBody(in, idsAsStock(recs[i])), unsignedIDs(want); got == want {
			name = "no-id"
		} else {
			name = explained(recs[i], got, want)
		}
		if name != "" {
			known[name]++
			continue
		}
		if bad++; bad <= 12 {
			t.Errorf("%q\nours  %q\nstock %q", recs[i], got, want)
		}
	}
	t.Logf("compared %d records, %d differ, by known differences: %v", compared, bad, known)
	if compared < len(recs)*9/10 {
		t.Errorf("only %d of %d records came out of the stock tool", compared, len(recs))
	}
}
