package upkeep

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

func TestMain(m *testing.M) {
	need.Parallel(6) // they wait for the disk
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(threeDays.dir)
		os.Exit(code)
	}))
}

// rig is a collector without its sockets.
type rig struct {
	dir string
	j   *journal.Journal
	st  *bolt.Store
	h   *head.Head
	gen *storetest.Generator
	n   uint64
}

func startRig(t testing.TB, dir string, mem int64) *rig {
	t.Helper()
	r := &rig{dir: dir, gen: storetest.NewGenerator(3, storetest.Templates(t), 4, storetest.Start)}
	var err error
	if r.st, err = bolt.Open(bolt.Options{Dir: dir, LockTimeout: -1}); err != nil {
		t.Fatal(err)
	}
	if r.j, _, err = journal.Open(journal.Options{Dir: filepath.Join(dir, journalDir), SegmentBytes: 128 << 10,
		ID: r.st.ID(), Known: r.st.Journal(), Changed: func(k seglog.Known, _ []seglog.Damage) error { return r.st.KeepJournal(k, nil) }}); err != nil {
		t.Fatal(err)
	}
	if r.h, err = head.Open(head.Options{Journal: r.j, Place: r.st, Events: r.st, TableBytes: mem, EventTimeout: time.Hour}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.close() })
	return r
}

func (r *rig) close() error { return errors.Join(r.h.Close(), r.j.Close(), r.st.Close()) }

// put submits n events received on a day and waits until they are acknowledged.
func (r *rig) put(t testing.TB, day, n int) {
	t.Helper()
	var wg sync.WaitGroup
	for range n {
		host, recs := r.gen.Event()
		r.n++
		b := &journal.Batch{Conn: 1, Sender: journal.Sender{Addr: netip.MustParseAddrPort("192.0.2.1:60"), Node: host, Transport: event.TransportTCP}, Managed: true,
			Received: storetest.Start.AddDate(0, 0, day).Add(time.Duration(r.n) * time.Millisecond)}
		for i, rec := range recs {
			b.Records = append(b.Records, journal.Record{Seq: journal.OwnNumbering | uint32(r.n*100+uint64(i)), Raw: rec})
		}
		wg.Add(1)
		if err := r.j.Submit(context.Background(), b, func(err error) {
			if err != nil {
				t.Error(err)
			}
			wg.Done()
		}); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
}

// leaveOpen submits the first record of an event, on a day.
func (r *rig) leaveOpen(t testing.TB, day int) {
	t.Helper()
	open := &journal.Batch{Conn: 2, Sender: journal.Sender{Addr: netip.MustParseAddrPort("192.0.2.2:60"), Transport: event.TransportTCP}, Managed: true, Received: storetest.Start.AddDate(0, 0, day).Add(time.Hour),
		Records: []journal.Record{{Seq: 1, Raw: []byte("node=open type=SYSCALL msg=audit(1795600000.000:7): arch=c000003e syscall=2 success=yes")}}}
	done := make(chan error, 1)
	if err := r.j.Submit(context.Background(), open, func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// threeDays is a store of three days with several groups each, closed in good order,
// with events left open in the journal. The first test that needs it makes it.
var threeDays struct {
	once sync.Once
	dir  string
}

// made is a copy of threeDays.
func made(t testing.TB) string {
	t.Helper()
	threeDays.once.Do(func() {
		dir, err := os.MkdirTemp("", "upkeep")
		if err != nil {
			t.Fatal(err)
		}
		threeDays.dir = dir
		r := startRig(t, filepath.Join(dir, "store"), 60<<10)
		for day := range 3 {
			r.put(t, day, 250)
		}
		r.leaveOpen(t, 2)
		if err := r.close(); err != nil {
			t.Fatal(err)
		}
	})
	return dead(t, filepath.Join(threeDays.dir, "store"))
}

func mustVerify(t testing.TB, dir string) *Report {
	t.Helper()
	rep, err := Verify(context.Background(), VerifyOptions{Dir: dir, Workers: 2})
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

func clean(t testing.TB, dir string) *Report {
	t.Helper()
	rep := mustVerify(t, dir)
	for _, d := range rep.Damage {
		t.Errorf("damage in a store that has none: %s", d)
	}
	return rep
}

// contents are all records a reader finds in a store that no server has; err is
// of damage met on the way, n the number of events in partitions.
func contents(t testing.TB, dir string) (records []string, err error) {
	t.Helper()
	quiet := hclog.NewNullLogger()
	st, err := bolt.Open(bolt.Options{Dir: dir, ReadOnly: true, Logger: quiet, LockTimeout: -1})
	if err != nil {
		return nil, err
	}
	defer st.Close()
	h, err := head.OpenReadOnly(head.Options{Place: st, Events: st, Logger: quiet}, journal.Options{Dir: filepath.Join(dir, journalDir), Logger: quiet, ID: st.ID(), Known: st.Journal()})
	if err != nil {
		return nil, err
	}
	defer h.Close()
	err = h.Scan(context.Background(), &query.Query{}, func(ev *event.Event) error {
		for i := range ev.Records {
			records = append(records, string(ev.Records[i].Raw))
		}
		return nil
	})
	for _, host := range h.Hosts() {
		records = append(records, fmt.Sprintf("host %s: %d records, %d bytes, %v", host.Name, host.Records, host.Bytes, host.Addrs))
	}
	slices.Sort(records)
	return records, err
}

func TestVerifyClean(t *testing.T) {
	t.Parallel()
	dir := made(t)
	rep := clean(t, dir)
	if len(rep.Parts) != 3 || rep.Readable < 500 || rep.Lost != 0 || rep.Server != "" || rep.Journal.Entries == 0 {
		t.Errorf("%d partitions, %d events readable, %d lost, server %q, journal %+v", len(rep.Parts), rep.Readable, rep.Lost, rep.Server, rep.Journal)
	}
	for _, p := range rep.Parts {
		if p.Groups < 3 {
			t.Errorf("%s: only %d groups: the test shows little", p.Path, p.Groups)
		}
	}
}

// TestVerifyBesideServer verifies again and again while a collector stores.
func TestVerifyBesideServer(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	r := startRig(t, dir, 60<<10)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for day := 0; ; day++ {
			r.put(t, min(day/4, 5), 100)
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	last, rounds := uint64(0), 0
	need.Wait(t, "verified often, and much was stored meanwhile", func() bool {
		rep, err := Verify(context.Background(), VerifyOptions{Dir: dir, Workers: 1})
		if errors.Is(err, store.ErrNotOurs) {
			return false // not made yet
		}
		if err != nil {
			t.Error(err)
			return true
		}
		if len(rep.Damage) > 0 || rep.Server == "" || rep.Readable < last {
			t.Errorf("server %q, %d events after %d: %q", rep.Server, rep.Readable, last, rep.Damage)
			return true
		}
		last = rep.Readable
		rounds++
		return rounds >= need.Rounds(50, 10) && last >= 600
	})
	close(stop)
	wg.Wait()
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	if rep := clean(t, dir); rep.Readable < 500 {
		t.Errorf("only %d events were stored meanwhile", rep.Readable)
	}
}

// flip changes a byte of a file and returns what puts it back.
func flip(t *testing.T, path string, at int64, mask byte) (undo func()) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	put := func(c byte) {
		if _, err := f.WriteAt([]byte{c}, at); err != nil {
			t.Fatal(err)
		}
	}
	put(b[0] ^ mask)
	return func() {
		put(b[0])
		f.Close()
	}
}

func storeFiles(t *testing.T, dir string) (files []string) {
	t.Helper()
	for _, pattern := range []string{"partitions/*.db", "journal/*.seg", "senders.db"} {
		m, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(m) == 0 {
			t.Fatalf("%s: %v, %v", pattern, m, err)
		}
		files = append(files, m...)
	}
	return files
}

var offsetIn = regexp.MustCompile(`: offset (\d+): `)

// TestVerifyFlips flips bits all over the store. Each one is named, with its file,
// or changes nothing that a reader sees.
func TestVerifyFlips(t *testing.T) {
	t.Parallel()
	dir := made(t)
	want, err := contents(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	total := clean(t, dir).Readable
	seed := need.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	each := need.Rounds(50, 6)
	for _, path := range storeFiles(t, dir) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var written []int64 // most of a small file is space set aside
		for at, c := range b {
			if c != 0 {
				written = append(written, int64(at))
			}
		}
		named, tried := 0, 0
		// Some files have few pages that are in use, beside those of earlier transactions.
		for ; tried < each || named == 0 && tried < 100*each; tried++ {
			at := min(int64(len(b)-1), written[rng.IntN(len(written))]+rng.Int64N(4))
			mask := byte(1) << rng.IntN(8)
			undo := flip(t, path, at, mask)
			what := fmt.Sprintf("%s, byte %d ^ %#x", filepath.Base(path), at, mask)
			rep, verr := Verify(context.Background(), VerifyOptions{Dir: dir, Workers: 2})
			switch {
			case verr != nil:
				// A version is what a newer program may have written: not judged.
				if !errors.Is(verr, store.ErrVersion) && !strings.Contains(verr.Error(), "newer") && !strings.Contains(verr.Error(), "another kind") &&
					!strings.Contains(verr.Error(), "the name says otherwise") && !strings.Contains(verr.Error(), filepath.Base(path)) {
					t.Errorf("%s: %v", what, verr)
				}
			case len(rep.Damage) > 0:
				named++
				if !slices.ContainsFunc(rep.Damage, func(d string) bool { return strings.HasPrefix(d, path) }) {
					t.Errorf("%s: another file is named: %q", what, rep.Damage)
				}
				if rep.Readable+rep.Lost != total && !strings.Contains(strings.Join(rep.Damage, " "), "page") {
					t.Errorf("%s: %d events readable, %d lost, of %d: %q", what, rep.Readable, rep.Lost, total, rep.Damage)
				}
				checkPlace(t, what, path, at, rep.Damage)
			default:
				if got, err := contents(t, dir); err != nil || !slices.Equal(got, want) {
					t.Errorf("%s: nothing is named, and a reader finds %d of %d lines, %v; notes %q", what, len(got), len(want), err, rep.Notes)
				}
			}
			undo()
			if t.Failed() {
				return
			}
		}
		t.Logf("%s: %d bytes, %d of %d flips named", filepath.Base(path), len(b), named, tried)
		if named == 0 {
			t.Errorf("%s: no flip was named", path)
		}
	}
	clean(t, dir)
}

// checkPlace wants one of the named offsets to be where the flip is: on its page,
// or no further before it than the largest thing that has one checksum.
func checkPlace(t *testing.T, what, path string, at int64, damage []string) {
	t.Helper()
	for _, d := range damage {
		m := offsetIn.FindStringSubmatch(d)
		if m == nil || !strings.HasPrefix(d, path) {
			continue
		}
		off, err := strconv.ParseInt(m[1], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if off < at+4096 && at-off < 64<<10 || strings.Contains(d, "out of order") || strings.Contains(d, "page") {
			return
		}
	}
	t.Errorf("%s: no offset near: %q", what, damage)
}

func appendTo(t *testing.T, path string, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
}

// TestVerifyNames: each kind of damage is named with its place and what it costs.
func TestVerifyNames(t *testing.T) {
	t.Parallel()
	newestSegment := func(t *testing.T, dir string) string {
		m, err := filepath.Glob(filepath.Join(dir, "journal/*.seg"))
		if err != nil || len(m) == 0 {
			t.Fatal(m, err)
		}
		return m[len(m)-1]
	}
	part := func(dir string, day int) string {
		return filepath.Join(dir, "partitions", store.DayOf(storetest.Start.AddDate(0, 0, day)).String()+".db")
	}
	for name, c := range map[string]struct {
		change func(t *testing.T, dir string)
		damage []string // all of these are in one line of it; none: no damage
		note   string
	}{
		"torn tail": {change: func(t *testing.T, dir string) {
			appendTo(t, newestSegment(t, dir), []byte("half of an entry that was being written when the power went"))
		}, note: "59 bytes of an unfinished write"},
		"a segment is gone": {change: func(t *testing.T, dir string) {
			m, _ := filepath.Glob(filepath.Join(dir, "journal/*.seg"))
			for _, path := range m {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
		}, damage: []string{"journal", "not complete yet", "neither in the journal nor stored"}},
		"a partition cut short": {change: func(t *testing.T, dir string) {
			if err := os.Truncate(part(dir, 1), 20_000); err != nil {
				t.Fatal(err)
			}
		}, damage: []string{part("", 1), "cut short"}},
		"an empty partition": {change: func(t *testing.T, dir string) {
			if err := os.Truncate(part(dir, 1), 0); err != nil {
				t.Fatal(err)
			}
		}, damage: []string{part("", 1), "empty file"}},
		"another day's partition": {change: func(t *testing.T, dir string) {
			if err := os.Rename(part(dir, 1), part(dir, 9)); err != nil {
				t.Fatal(err)
			}
		}, damage: []string{part("", 9), "of another day"}},
		"set aside": {change: func(t *testing.T, dir string) {
			if err := os.Rename(part(dir, 1), part(dir, 1)+".corrupt-1795343888417335399"); err != nil {
				t.Fatal(err)
			}
		}, damage: []string{part("", 1) + ".corrupt-", "answers may lack some of it", "events in it are readable: `collector salvage` brings them back"}},
		"a foreign file": {change: func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "partitions", "notes.txt"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, note: "notes.txt: no file of the store"},
		"half a partition": {change: func(t *testing.T, dir string) {
			if err := os.WriteFile(part(dir, 7)+".tmp", []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, note: "the next start removes it"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := made(t)
			c.change(t, dir)
			rep := mustVerify(t, dir)
			if len(c.damage) == 0 && len(rep.Damage) > 0 {
				t.Errorf("damage: %q", rep.Damage)
			}
			if len(c.damage) > 0 && !slices.ContainsFunc(rep.Damage, func(d string) bool {
				return !slices.ContainsFunc(c.damage, func(want string) bool { return !strings.Contains(d, want) })
			}) {
				t.Errorf("%q; no line has all of %q", rep.Damage, c.damage)
			}
			if c.note != "" && !strings.Contains(strings.Join(rep.Notes, "\n"), c.note) {
				t.Errorf("notes %q; want %q", rep.Notes, c.note)
			}
		})
	}
}

func TestVerifyNoStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := Verify(context.Background(), VerifyOptions{Dir: filepath.Join(dir, "none")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "letter.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(context.Background(), VerifyOptions{Dir: dir}); !errors.Is(err, store.ErrNotOurs) {
		t.Errorf("another folder: %v", err)
	}
}
