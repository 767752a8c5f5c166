package search

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/query"
)

func mustFindNew(t *testing.T, o *Options, f query.Source) []string {
	t.Helper()
	lines, err := findNew(t, o, f)
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// codeOf is the exit code of a search that cannot follow its checkpoint.
func codeOf(t *testing.T, o *Options, f query.Source) int {
	t.Helper()
	lines, err := findNew(t, o, f)
	bad := (*CheckpointError)(nil)
	if !errors.As(err, &bad) || len(lines) > 0 {
		t.Fatalf("%q, %v; want a checkpoint that is not followed", lines, err)
	}
	return bad.Code
}

// The file of a store: small where everything printed is stored, and with what is in
// memory it has that.
func TestCheckpointOfStoreFile(t *testing.T) {
	ck := filepath.Join(t.TempDir(), "ck")
	f := newStoreModel()
	f.add("a", storyStart, storyStart, 1)
	f.add("b", storyStart+5, storyStart, 2)
	f.store(1)
	o := &Options{Checkpoint: ck}
	if got := mustFindNew(t, o, f); len(got) != 2 {
		t.Fatalf("%q", got)
	}
	if got, want := readFile(t, ck), "hosts=1\nstore=5107\nbatch=1\nyoungest=1700000000005\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	far := f.add("a", 2*storyStart, storyStart, 3)
	if got := mustFindNew(t, o, f); !slices.Equal(got, []string{far}) {
		t.Fatalf("%q", got)
	}
	d := digestOf(&f.events[2].ev)
	want := fmt.Sprintf("hosts=1\nstore=5107\nbatch=1\nyoungest=1700000000005\nmemory=2 %d %x\n", 2*storyStart, d)
	if got := readFile(t, ck); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	f.store(2)
	if got := mustFindNew(t, o, f); len(got) != 0 || strings.Contains(readFile(t, ck), "memory") {
		t.Errorf("%q, %q", got, readFile(t, ck))
	}
	o.CheckpointTime = true
	if got := mustFindNew(t, o, f); len(got) != 2 { // b's and the far one
		t.Errorf("--start checkpoint: %q", got)
	}
}

// A checkpoint of another store, or of more than the store has, is not followed; by its
// time it is.
func TestCheckpointOfAnotherStore(t *testing.T) {
	ck := filepath.Join(t.TempDir(), "ck")
	f := newStoreModel()
	line := f.add("a", storyStart, storyStart, 1)
	f.store(9)
	o := &Options{Checkpoint: ck}
	mustFindNew(t, o, f)
	was := readFile(t, ck)
	f.id = "5108"
	if code := codeOf(t, o, f); code != 10 {
		t.Errorf("of another store: %d", code)
	}
	f.id, f.last = "5107", 8
	if code := codeOf(t, o, f); code != 12 {
		t.Errorf("of an older copy: %d", code)
	}
	if got := readFile(t, ck); got != was {
		t.Errorf("it was changed to %q", got)
	}
	o.CheckpointTime = true
	if got := mustFindNew(t, o, f); !slices.Equal(got, []string{line}) {
		t.Errorf("--start checkpoint: %q", got)
	}
	if got := mustFindNew(t, &Options{Checkpoint: ck}, f); len(got) != 0 {
		t.Errorf("after it: %q", got)
	}
}

// What an earlier version printed is not printed again, what it never did is, and what
// comes later with an earlier time is no longer hidden by its places.
func TestCheckpointOfEarlierVersions(t *testing.T) {
	const century = 100 * 365 * 86_400_000
	for _, justOne := range []bool{false, true} {
		ck := filepath.Join(t.TempDir(), "ck")
		writeFile(t, ck, "hosts=1\nreceived=1700000000500\noutput=- 1700000000.000:1 0x44C\noutput=web1 1700000000.100:7 0x44C\n")
		f := newStoreModel()
		var want []string
		fresh := func(line string) { want = append(want, line) }
		send := func(batch string) {
			f.add("web1", storyStart+100, storyStart, 7)
			f.add("web1", storyStart+50, storyStart, 9)
			fresh(f.add("web1", storyStart+100, storyStart, 8))
			f.add("", storyStart, storyStart, 1)
			fresh(f.add("", storyStart+1, storyStart, 1))
			fresh(f.add("beyond-"+batch, storyStart, storyStart, 3))
			f.add("web1", storyStart+century, storyStart+500, 4)
			fresh(f.add("web1", storyStart+century, storyStart+501, 4))
		}
		send("stored")
		f.store(1)
		send("memory")
		var got []string
		first := func() {
			lines := mustFindNew(t, &Options{Checkpoint: ck, JustOne: justOne}, f)
			got = append(got, lines...)
		}
		first()
		fresh(f.add("web1", storyStart+40, storyStart+9000, 2)) // late
		f.store(2)
		fresh(f.add("web1", storyStart+41, storyStart+9000, 2))
		for range 20 {
			first()
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("--just-one=%v: %q\nwant %q", justOne, got, want)
		}
		if text := readFile(t, ck); strings.Contains(text, "output=") || strings.Contains(text, "received=") {
			t.Errorf("--just-one=%v: the old places are still there: %q", justOne, text)
		}
	}
}

// --just-one goes through a store by its times: its file stays small, however much
// there is and was printed.
func TestCheckpointJustOneStaysSmall(t *testing.T) {
	t.Parallel()
	ck := filepath.Join(t.TempDir(), "ck")
	f := newStoreModel()
	var want []string
	for i := range 300 {
		want = append(want, f.add("a", storyStart+int64(i/2), storyStart, i))
	}
	f.store(1)
	for i := range want {
		if got := mustFindNew(t, &Options{Checkpoint: ck, JustOne: true}, f); !slices.Equal(got, want[i:i+1]) {
			t.Fatalf("%d: %q, want %q", i, got, want[i])
		}
		if n := strings.Count(readFile(t, ck), "\n"); n > 7 {
			t.Fatalf("after %d events the file has %d lines", i, n)
		}
	}
}

// A file that is none is not followed, and stays.
func TestCheckpointOfStoreRefused(t *testing.T) {
	ck := filepath.Join(t.TempDir(), "ck")
	for _, text := range []string{
		"", "dev=0x1\ninode=2\noutput=- 0.000:0 0x0\n", "what\n", "batch=1\n", "output=x\n", "received=\n", "received=-5\n", "received=x\n",
		"batch=-1\n", "batch=\n", "batch=99999999999999999999\n", "store=\nbatch=1\n", "batch=1\ndrained=1\n", "batch=1\ndrained=x 1\n", "batch=1\nyoungest=-1\n",
		"batch=1\nprinted=2 3\n", "batch=1\nprinted=2 3 0011\n", "batch=1\nprinted=2 3 " + strings.Repeat("g", 32) + "\n", "batch=1\nprinted=2  " + strings.Repeat("0", 32) + "\n",
	} {
		if text != "" && text[0] != 'd' && text != "batch=1\n" {
			text = hostsLine + "\n" + text
		}
		writeFile(t, ck, text)
		if code := codeOf(t, &Options{Checkpoint: ck}, newStoreModel()); code != 10 {
			t.Errorf("%q: exit code %d", text, code)
		}
		if readFile(t, ck) != text {
			t.Errorf("%q was overwritten", text)
		}
	}
	o := &Options{Checkpoint: filepath.Join(t.TempDir(), "no", "such", "folder")}
	if code := codeOf(t, o, newStoreModel()); code != 11 {
		t.Errorf("a file that cannot be written: exit code %d", code)
	}
}

// fullWriter has no room.
type fullWriter struct{}

var errFull = errors.New("no space")

func (fullWriter) Write([]byte) (int, error) { return 0, errFull }

// What could not be written was not printed.
func TestCheckpointOutputFails(t *testing.T) {
	ck := filepath.Join(t.TempDir(), "ck")
	f := newStoreModel()
	f.add("a", storyStart, storyStart, 1)
	o := &Options{Checkpoint: ck, Config: output.Config{Format: output.FormatRaw}}
	w := output.NewWriter(fullWriter{}, &o.Config, time.UTC)
	if _, err := FindNew(context.Background(), o, f, w); !errors.Is(err, errFull) {
		t.Errorf("%v", err)
	}
	if got := mustFindNew(t, o, f); len(got) != 1 {
		t.Errorf("%q", got)
	}
}

// TestCheckpointExamples reads the examples of CHECKPOINT.md.
func TestCheckpointExamples(t *testing.T) {
	parts := strings.Split(readFile(t, "CHECKPOINT.md"), "```")
	if len(parts) != 7 {
		t.Fatalf("CHECKPOINT.md has %d examples", len(parts)/2)
	}
	ck := filepath.Join(t.TempDir(), "ck")
	id := func(sum string) (d digest) {
		if !d.parse(sum) {
			t.Fatalf("%q is no digest", sum)
		}
		return d
	}
	place := logID{dev: 0xfe00, inode: 5309215}
	last := mark{sec: 1795338542, milli: 954, serial: 95423, typ: 1117}
	ours := checkpoint{log: place, last: last, nth: 4711, early: earlyEvents{id("1c8e5c3f9c0b7d5a2e4f60718293a4b5"): 1, id("9f8e7d6c5b4a39281706f5e4d3c2b1a0"): 1}}
	ours.log.first = id("2df27e6dc3cbffdba6d2caf1f558c1c2")
	for i, want := range []checkpoint{{log: place, last: last, early: earlyEvents{}}, ours} {
		text := parts[2*i+1][1:]
		writeFile(t, ck, text)
		cp, err := loadCheckpoint(ck)
		if err != nil || !reflect.DeepEqual(*cp, want) {
			t.Fatalf("%+v, %v", cp, err)
		}
		if err := cp.save(ck); err != nil || readFile(t, ck) != text {
			t.Errorf("came back as %q, %v", readFile(t, ck), err)
		}
	}
	writeFile(t, ck, parts[5][1:])
	of, err := loadStoreCheckpoint(ck)
	if err != nil || of.batch != 4711 || of.drained != 4720 || of.before != 1795338540001 || len(of.printed) != 2 || of.old.only {
		t.Fatalf("%+v, %v", of, err)
	}
	if err := of.save(ck); err != nil || readFile(t, ck) != parts[5][1:] {
		t.Errorf("came back as %q, %v", readFile(t, ck), err)
	}
}

// Nothing about an event that two can differ in is left out of its digest.
func TestDigest(t *testing.T) {
	seen := map[digest]string{}
	for _, e := range []storedEvent{
		storedOf(fleetLine("a", 1, 1), 0), storedOf(fleetLine("b", 1, 1), 0), storedOf(fleetLine("a", 2, 1), 0), storedOf(fleetLine("a", 1, 2), 0), storedOf(fleetLine("a", 1, 1), 5),
	} {
		for _, from := range []*event.Sender{nil, {Addr: netip.MustParseAddr("192.0.2.1")}, {Host: "a"}, {Transport: event.TransportTCP}} {
			e.ev.From = from
			d := digestOf(&e.ev)
			if was, ok := seen[d]; ok {
				t.Errorf("%q and %q have one digest", was, e.line)
			}
			seen[d] = e.line
			if e.ev.Batch++; digestOf(&e.ev) != d {
				t.Error("the batch changes it")
			}
		}
	}
}
