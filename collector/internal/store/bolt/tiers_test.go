package bolt

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// merging merges the running day once there are two groups.
var merging = store.Compaction{After: time.Hour, Oldest: 400, Groups: 2}

// lateBatch stores a batch on the first day of generated logs, with some events of the day before, and a row of the ledger.
func lateBatch(t *testing.T, s *Store, id uint64) {
	t.Helper()
	tab := store.NewTable()
	for i := range 2 {
		g := storetest.NewGenerator(id, storetest.Templates(t), 3, storetest.Start.AddDate(0, 0, -i).Add(time.Duration(id)*time.Minute))
		storetest.Fill(tab, g, 20-15*i)
	}
	day := store.DayOf(storetest.Start)
	row := &ledger.Row{Start: day.Time().UnixMilli(), Length: ledger.Hour, Counts: []ledger.Count{{Slot: 1, Records: 1, Events: 1}}}
	must(t, s.Append(context.Background(), &store.Batch{ID: id, At: storetest.Start, Day: day, Events: tab, LSN: 100 * id,
		Hosts: []store.Host{{Name: "web1", Records: id}}, Ledger: []store.HostLedger{{Host: "web1", Rows: []*ledger.Row{row}}}}))
}

// accounted returns how many records the ledger has of the host of lateBatch.
func accounted(t *testing.T, s *Store) (n uint64) {
	t.Helper()
	_, err := s.Ledger(context.Background(), []string{"web1"}, math.MinInt64, math.MaxInt64, func(_ string, r *ledger.Row) {
		for _, c := range r.Counts {
			n += c.Records
		}
	})
	must(t, err)
	return n
}

// mergeAll compacts until nothing is due, and returns how many events were written again.
func mergeAll(t *testing.T, s *Store, c store.Compaction) (events uint64) {
	t.Helper()
	for {
		done, err := s.Compact(context.Background(), c)
		must(t, err)
		if done == nil {
			return events
		}
		events += done.Events
	}
}

// The running day is merged as it comes: it never has many groups, no event is written again more often than there are tiers, answers and
// accounts stay what they were, and once the day is over its events are where they would be without that.
func TestTiers(t *testing.T) {
	t.Parallel()
	at := storetest.Start
	now := func() time.Time { return at }
	batches := uint64(need.Size(40, 20))
	dir := filepath.Join(t.TempDir(), "store")
	s := open(t, Options{Dir: dir, now: now, tierParts: 3})
	plain := open(t, Options{Dir: t.TempDir(), now: now})
	how := merging
	how.Classes = someClasses
	written, most := uint64(0), 0
	for id := uint64(1); id <= batches; id++ {
		lateBatch(t, s, id)
		lateBatch(t, plain, id)
		written += mergeAll(t, s, how)
		groups, parts := 0, 0
		for _, p := range s.parts {
			groups, parts = groups+len(p.entries), parts+1
			if p.compacted != nil && p.compacted.Class != store.Undivided {
				t.Fatalf("batch %d: %s is of class %q while the day runs", id, p.part, p.compacted.Class)
			}
		}
		most = max(most, groups)
		if id%13 == 0 {
			must(t, s.Close())
			s = open(t, Options{Dir: dir, now: now, tierParts: 3})
		}
	}
	// One or two groups that wait, and two parts at most in each of the tiers of 3 and 9 times the least, and beyond.
	if most > 10 {
		t.Errorf("the running day had %d groups, of %d batches", most, batches)
	}
	events := batches * 25
	if written > 5*events {
		t.Errorf("%d events were written again %d times", events, written)
	}
	t.Logf("%d batches, %d groups at most, each event written again %.1f times", batches, most, float64(written)/float64(events))
	same := func(when string) {
		t.Helper()
		if d := cmp.Diff(whole(t, plain), whole(t, s)); d != "" {
			t.Errorf("%s (-as it came +merged):\n%.1000s", when, d)
		}
		if n := accounted(t, s); n != batches {
			t.Errorf("%s: %d records are accounted for, want %d", when, n, batches)
		}
		st, err := s.State(context.Background())
		if err != nil || st.ID != batches || st.LSN != 100*batches || len(st.Hosts) != 1 || st.Hosts[0].Records != batches {
			t.Errorf("%s: %+v, %v", when, st, err)
		}
		allSealed(t, s, when)
	}
	same("while the day runs")
	at = at.AddDate(0, 0, 2)
	must(t, s.Rotate(context.Background()))
	must(t, plain.Rotate(context.Background()))
	mergeAll(t, s, how)
	mergeAll(t, plain, how)
	same("once it is over")
	if d := cmp.Diff(partsOf(t, plain), partsOf(t, s)); d != "" {
		t.Errorf("parts (-as it came +merged):\n%s", d)
	}
}

// partsOf returns what compaction has left, without the numbers of parts.
func partsOf(t *testing.T, s *Store) (list []store.PartStats) {
	t.Helper()
	stats, err := s.Stats(context.Background())
	must(t, err)
	for _, p := range stats.Parts {
		if p.Compacted {
			p.N, p.DiskBytes, p.IndexBytes = 0, 0, 0
			list = append(list, p)
		}
	}
	return list
}

// A collector that is killed before any operation on the disk while it merges the running day has each event once at the next start, and
// can go on: it merges what is there, and the day once it is over.
func TestTiersKilled(t *testing.T) {
	t.Parallel()
	disk := &watched{FS: fsys.OS}
	now := func() time.Time { return storetest.Start }
	s := open(t, Options{Dir: filepath.Join(t.TempDir(), "store"), now: now, fs: disk, tierParts: 2})
	const batches = 4
	type copied struct {
		dir, what string
		want      []string
	}
	var all []copied
	var want []string
	disk.before = func(n int, what string) error {
		to := filepath.Join(t.TempDir(), "store")
		must(t, os.CopyFS(to, os.DirFS(s.opts.Dir)))
		all = append(all, copied{to, what, want})
		return nil
	}
	for id := uint64(1); id <= batches; id++ {
		hook := disk.before
		disk.before = nil // a batch that is stored is tested elsewhere
		lateBatch(t, s, id)
		want, disk.before = whole(t, s), hook
		mergeAll(t, s, merging)
	}
	disk.before = nil
	for i := 0; i < len(all); i += need.Size(1, 37) {
		c := all[i]
		s := open(t, Options{Dir: c.dir, now: now, tierParts: 2})
		if d := cmp.Diff(c.want, whole(t, s)); d != "" {
			t.Errorf("killed before %s (-before +after):\n%.1000s", c.what, d)
		}
		if b := s.Missing(); len(b) > 0 {
			t.Errorf("killed before %s: a false alarm: %v", c.what, b)
		}
		st, err := s.State(context.Background())
		must(t, err)
		mergeAll(t, s, merging)
		if n := accounted(t, s); n != st.ID {
			t.Errorf("killed before %s: %d records are accounted for, want %d", c.what, n, st.ID)
		}
		allSealed(t, s, "killed before "+c.what)
		must(t, s.Close())
		s = open(t, Options{Dir: c.dir, now: later})
		goesOn(t, s, "killed before "+c.what, c.want, st.ID)
		must(t, s.Close())
		must(t, os.RemoveAll(c.dir))
	}
	if len(all) < 40 {
		t.Errorf("killed before %d operations only", len(all))
	}
}

// What cannot be compacted is tried again after an hour, and after twice as long each time, and said so; the running day does not become many parts
// meanwhile. What comes to be compacted is forgotten.
func TestPostponed(t *testing.T) {
	t.Parallel()
	at := storetest.Start
	s := open(t, Options{Dir: t.TempDir(), now: func() time.Time { return at }})
	broken := errors.New("no word of it can be signed")
	s.VouchWith(func(*seal.Leaf) error { return broken })
	var waits []time.Duration
	for id := uint64(1); len(waits) < 7; id++ {
		lateBatch(t, s, id)
		done, err := s.Compact(context.Background(), merging)
		if list := s.Uncompacted(merging); err != nil {
			if !errors.Is(err, broken) || len(list) != 1 || list[0].Times != len(waits)+1 || !errors.Is(list[0].Err, broken) || list[0].Since.After(at) {
				t.Fatalf("%v: %+v", err, list)
			}
			waits = append(waits, list[0].Next.Sub(at))
			if again, err := s.Compact(context.Background(), merging); again != nil || err != nil {
				t.Errorf("tried at once: %v, %v", again, err)
			}
			at = list[0].Next
		} else if done != nil {
			t.Fatalf("%+v", done)
		}
		if id > 100 {
			t.Fatalf("waits: %v", waits)
		}
	}
	h := time.Hour
	if d := cmp.Diff([]time.Duration{h, 2 * h, 4 * h, 8 * h, 16 * h, 24 * h, 24 * h}, waits); d != "" {
		t.Errorf("waits (-want +got):\n%s", d)
	}
	if len(s.parts) != 2 {
		t.Errorf("%d parts", len(s.parts))
	}
	s.VouchWith(func(*seal.Leaf) error { return nil })
	want := whole(t, s)
	mergeAll(t, s, merging)
	if list := s.Uncompacted(merging); len(list) != 0 || len(s.compacting.failed) != 0 {
		t.Errorf("%+v", list)
	}
	if d := cmp.Diff(want, whole(t, s)); d != "" {
		t.Errorf("(-before +after):\n%.1000s", d)
	}
}

// A batch without events that comes to a source while it is rewritten, for the clock went back, is in no note of what was there: so that
// what was made would not be known for it. The source stays.
func TestCompactPlaceMoved(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Dir: made(t, 6)})
	day := store.DayOf(storetest.Start)
	late := copied(t, s, store.Part{Day: day, N: 1})
	must(t, s.putRest(late))
	must(t, s.Append(context.Background(), &store.Batch{ID: 7, Day: day, LSN: 700}))
	must(t, s.Append(context.Background(), &store.Batch{ID: 8, Day: day + 2, LSN: 800}))
	if err := s.replace(context.Background(), late); !errors.Is(err, errChanged) {
		t.Errorf("it was replaced: %v", err)
	}
}

// Numbers of batches are not used again where the first of the parts that compaction made and the last partition are lost: the others know them.
func TestNumbersOfCompacted(t *testing.T) {
	t.Parallel()
	s, batches := lateDays(t, fsys.OS)
	must(t, s.Rotate(context.Background()))
	compactAll(t, s)
	must(t, s.Close())
	files, err := layout.List(s.opts.Dir)
	must(t, err)
	for _, f := range files.Partitions {
		if f.Day != store.DayOf(storetest.Start)+1 || f.N == 1 { // of the last day the part stays that has events of the day before
			must(t, os.Remove(f.Path))
		}
	}
	s = open(t, Options{Dir: s.opts.Dir, now: later})
	st, err := s.State(context.Background())
	if err != nil || st.ID != batches {
		t.Errorf("the last batch is %d, %v, and was %d", st.ID, err, batches)
	}
}
