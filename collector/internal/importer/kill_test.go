package importer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/internal/need"
)

// dying is a target whose process dies at a batch: before it is stored, or after that and before the importer
// knows.
type dying struct {
	*head.Head
	left  int
	after bool
	dead  bool
}

var errKilled = errors.New("killed")

func (d *dying) Import(ctx context.Context, in head.Imported) (uint64, error) {
	if d.left--; d.left > 0 && !d.dead {
		return d.Head.Import(ctx, in)
	}
	if d.after && !d.dead {
		if _, err := d.Head.Import(ctx, in); err != nil {
			return 0, err
		}
	}
	d.dead = true
	return 0, errKilled
}

// TestKilledAnywhere kills an import at one batch, and at a later one again, until nothing is left to be done: the store has
// what the logs have, and what had come before.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	seed := need.Seed(t)
	dir := t.TempDir()
	rnd := rand.New(rand.NewPCG(seed, 1))
	want := map[string]int{} // records by text
	count := func(text string, by int) {
		for line := range strings.Lines(text) {
			want[strings.TrimSuffix(line, "\n")] += by
		}
	}
	// Logs of one host whose events go on from one to the next, a copy of one, one that has some of two, and one that is
	// doubled.
	text := events(0, 400)
	lines := strings.SplitAfter(text, "\n")
	for i, at := range []int{0, 301, 602, 903} { // within events
		end := min(at+301, len(lines))
		write(t, filepath.Join(dir, fmt.Sprintf("log%d", i)), strings.Join(lines[at:end], ""))
	}
	count(text, 1)
	write(t, filepath.Join(dir, "copy"), strings.Join(lines[301:602], ""))
	write(t, filepath.Join(dir, "some"), strings.Join(lines[200:800], ""))
	double := events(5000, 200)
	write(t, filepath.Join(dir, "double"), double+double)
	count(double, 2)
	c := newCollector(t)
	for step := 1; ; step++ {
		d := &dying{Head: c.Head, left: 1 + rnd.IntN(4), after: rnd.IntN(2) == 0}
		_, err := c.try(t.Context(), "killed", Config{Target: d, TableBytes: 20 << 10, compareBytes: 500 + rnd.IntN(8000)}, dir)
		if err == nil {
			t.Logf("killed %d times", step-1)
			break
		}
		if !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		if step > 2000 {
			t.Fatal("it comes to no end")
		}
		c.close()
		c.open()
	}
	got := map[string]int{}
	for _, r := range c.stored("web1") {
		got[r]++
	}
	for text, n := range want {
		if got[text] != n {
			t.Fatalf("%d times, want %d: %s", got[text], n, text)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d different records, want %d", len(got), len(want))
	}
	wantSum(t, "again", c.imports("killed", Config{}, dir), 7, 1200+301+600+1200, 0)
}

// TestInterrupted tells an import to end while it reads: what it has read is stored, and the next one reads the rest.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	c, dir := newCollector(t), t.TempDir()
	for i := range 30 {
		write(t, filepath.Join(dir, fmt.Sprint("log", i)), events(1000*i, 300))
	}
	total := int64(0)
	for n := 1; ; n++ {
		ctx, cancel := context.WithCancel(t.Context())
		d := &stopping{Head: c.Head, stop: cancel}
		sum, err := c.try(ctx, "stopped", Config{Target: d, TableBytes: 100 << 10, compareBytes: 4000}, dir)
		cancel()
		total += sum.Stored
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) || n > 1000 {
			t.Fatal(n, err)
		}
	}
	if n := len(c.stored("web1")); n != 30*900 || total != 30*900 {
		t.Errorf("%d records are stored, and %d counted, want %d", n, total, 30*900)
	}
}

// stopping stops an import once it has a batch.
type stopping struct {
	*head.Head
	stop func()
}

func (s *stopping) Import(ctx context.Context, in head.Imported) (uint64, error) {
	s.stop()
	return s.Head.Import(ctx, in)
}

// TestLiveAndImported has records come from a sender before, while and after the same log is imported.
func TestLiveAndImported(t *testing.T) {
	t.Parallel()
	c, dir := newCollector(t), t.TempDir()
	lines := strings.SplitAfter(events(0, 300), "\n")
	send := func(some []string) {
		t.Helper()
		b := &journal.Batch{Sender: journal.Sender{Addr: netip.MustParseAddrPort("192.0.2.7:2000"), Node: "web1"}, Received: time.Now()}
		for _, l := range some {
			b.Records = append(b.Records, journal.Record{Raw: []byte("node=web1 " + strings.TrimSuffix(l, "\n"))})
		}
		done := make(chan error, 1)
		if err := c.j.Submit(t.Context(), b, func(err error) { done <- err }); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	send(lines[:298]) // ends within an event
	path := write(t, filepath.Join(dir, "log"), strings.Join(lines, ""))
	wantSum(t, "a log of which some came", c.imports("one", Config{}, path), 1, 900, 900-298)
	hosts := c.Hosts()
	i := slices.IndexFunc(hosts, func(h store.Host) bool { return h.Name == "web1" })
	if i < 0 || hosts[i].Records != 900 || hosts[i].Live || hosts[i].LagMs != 0 {
		t.Errorf("hosts: %+v", hosts)
	}
	if n := len(c.stored("web1")); n != 900 {
		t.Errorf("%d records, want 900", n)
	}
	c.close()
	c.open()
	if n := len(c.stored("web1")); n != 900 {
		t.Errorf("%d records after a start, want 900", n)
	}
	old := write(t, filepath.Join(dir, "old"), strings.ReplaceAll("\n"+strings.TrimSuffix(events(0, 1), "\n"), "\n", "\nnode=gone ")+"\n")
	c.imports("two", Config{}, old)
	hosts = c.Hosts()
	i = slices.IndexFunc(hosts, func(h store.Host) bool { return h.Name == "gone" })
	if i < 0 || hosts[i].Records != 3 || !hosts[i].Last.IsZero() || !hosts[i].First.IsZero() || hosts[i].LastEventMs == 0 {
		t.Errorf("hosts: %+v", hosts)
	}
}
