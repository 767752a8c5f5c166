package bolt

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// bring appends an import's batch of n events of a year ago; with importBytes = 1 it gets a part of its own.
func bring(t *testing.T, s *Store, at time.Time, id uint64, n int) {
	t.Helper()
	tab := store.NewTable()
	for i := range n {
		ms := at.AddDate(-1, 0, 0).UnixMilli() + int64(i)
		tab.Add("a", storetest.Parse("a", fmt.Sprintf("type=USER_TTY msg=audit(%d.%03d:%d): text", ms/1000, ms%1000, id)))
	}
	must(t, s.Append(context.Background(), &store.Batch{ID: id, Day: store.DayOf(at), Events: tab, Import: &store.Import{Name: "old"}}))
}

// An import of which compaction has put some into its days is taken back as far as it can be, and says what stays.
func TestUndoPartly(t *testing.T) {
	t.Parallel()
	at, dir, ctx := time.Now(), t.TempDir(), context.Background()
	o := Options{Dir: dir, now: func() time.Time { return at }, importBytes: 1}
	s := open(t, o)
	bring(t, s, at, 1, 5)
	bring(t, s, at, 2, 7)
	must(t, s.EndImport(ctx, "old"))
	at = at.Add(25 * time.Hour)
	done, err := s.Compact(ctx, store.Compaction{ImportAfter: 24 * time.Hour})
	must(t, err)
	if len(done.From) != 1 || done.Events != 5 {
		t.Fatalf("%+v", done)
	}
	must(t, s.Close())
	s = open(t, o)
	if undone, err := s.UndoImport(ctx, "old", "a test"); err != nil || undone != (store.Undone{Records: 7, Stays: 5}) {
		t.Errorf("%+v, %v", undone, err)
	}
	if n := len(storetest.Collect(t, s, &query.Query{})); n != 5 {
		t.Errorf("%d events are left, want 5", n)
	}
	if undone, err := s.UndoImport(ctx, "old", "a test"); !errors.Is(err, store.ErrNoImport) || undone.Stays != 5 {
		t.Errorf("once more: %+v, %v", undone, err)
	}
}

// Whatever compaction exchanges meanwhile, what is dropped and what stays are all that there was.
func TestUndoWhileCompacted(t *testing.T) {
	t.Parallel()
	for round := range 6 {
		at, ctx := time.Now(), context.Background()
		s := open(t, Options{Dir: t.TempDir(), now: func() time.Time { return at }, importBytes: 1})
		for id := uint64(1); id <= 4; id++ {
			bring(t, s, at, id, 3)
		}
		must(t, s.EndImport(ctx, "old"))
		at = at.Add(25 * time.Hour)
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				if done, err := s.Compact(ctx, store.Compaction{ImportAfter: 24 * time.Hour}); done == nil && err == nil {
					return
				}
			}
		})
		for s.list.file.Content().Replaced == nil && round%2 == 0 { // until one has gone
			time.Sleep(time.Millisecond)
		}
		undone, err := s.UndoImport(ctx, "old", "a test")
		wg.Wait()
		left := uint64(len(storetest.Collect(t, s, &query.Query{})))
		if err != nil && !errors.Is(err, store.ErrNoImport) || undone.Stays != left || undone.Records+left != 12 {
			t.Errorf("%+v, %v; %d events are left", undone, err, left)
		}
	}
}

// An import that is continued each hour goes to its days in the end, but for what it has brought in the last days.
func TestCompactContinued(t *testing.T) {
	t.Parallel()
	at, ctx := store.DayOf(time.Now()).Time(), context.Background()
	s := open(t, Options{Dir: t.TempDir(), now: func() time.Time { return at }})
	c := store.Compaction{ImportAfter: 24 * time.Hour}
	for id := uint64(1); id <= 5*24; id++ {
		bring(t, s, at, id, 1)
		must(t, s.EndImport(ctx, "old"))
		if n, _ := s.Compactable(c); n != 0 {
			t.Fatalf("%d partitions are to be compacted after %d hours", n, id)
		}
		at = at.Add(time.Hour)
	}
	at = at.Add(time.Minute)
	done, err := s.Compact(ctx, c)
	must(t, err)
	if done == nil || done.Events != 5*24 {
		t.Fatalf("%+v", done)
	}
	bring(t, s, at, 5*24+1, 2)
	must(t, s.EndImport(ctx, "old"))
	if n, _ := s.Compactable(c); n != 0 {
		t.Errorf("%d partitions are to be compacted of what came since", n)
	}
	if undone, err := s.UndoImport(ctx, "old", "a test"); err != nil || undone != (store.Undone{Records: 2, Stays: 5 * 24}) {
		t.Errorf("%+v, %v", undone, err)
	}
}

// What an import has is read to its end also where it is dropped meanwhile, as compaction drops what it exchanges.
func TestImportReadWhileDropped(t *testing.T) {
	t.Parallel()
	at, ctx := time.Now(), context.Background()
	s := open(t, Options{Dir: t.TempDir(), now: func() time.Time { return at }, importBytes: 1})
	bring(t, s, at, 1, 3)
	bring(t, s, at, 2, 3)
	must(t, s.EndImport(ctx, "old"))
	list, err := s.importParts("old")
	must(t, err)
	var notes []uint64
	must(t, s.ImportNotes(ctx, "old", func(batch uint64, _ []byte) error {
		if notes = append(notes, batch); batch == 1 {
			return s.Drop(ctx, list[1].part, "a test")
		}
		return nil
	}))
	if len(notes) != 2 {
		t.Errorf("notes of batches %d", notes)
	}
	s.opts.importBytes = 1 << 30 // the rest goes to one part
	for id := uint64(3); id < 100; id++ {
		bring(t, s, at, id, 3)
	}
	must(t, s.EndImport(ctx, "old"))
	list, err = s.importParts("old")
	must(t, err)
	last, hosts := list[len(list)-1], 0
	var wg sync.WaitGroup
	defer wg.Wait()
	must(t, s.PartHosts(ctx, last.part, func(string) {
		if hosts++; hosts > 1 {
			return
		}
		wg.Go(func() {
			if err := s.Drop(ctx, last.part, "a test"); err != nil {
				t.Error(err)
			}
		})
	}))
	if hosts != 98 {
		t.Errorf("%d groups were read, want 98", hosts)
	}
}

// What an import has remembered that stored nothing goes, too, once nobody goes on with it; no batch's number is used again by that.
func TestCompactNothing(t *testing.T) {
	t.Parallel()
	at, dir, ctx := time.Now(), t.TempDir(), context.Background()
	o := Options{Dir: dir, now: func() time.Time { return at }}
	s, c := open(t, o), store.Compaction{ImportAfter: 24 * time.Hour}
	must(t, s.Append(ctx, &store.Batch{ID: 1, Day: store.DayOf(at), Import: &store.Import{Name: "old", Note: []byte("n")}}))
	at = at.Add(25 * time.Hour)
	if done, err := s.Compact(ctx, c); done != nil || err != nil {
		t.Errorf("while it goes on: %+v, %v", done, err)
	}
	must(t, s.EndImport(ctx, "old"))
	at = at.Add(25 * time.Hour)
	done, err := s.Compact(ctx, c)
	if err != nil || done == nil || len(done.From) != 1 || len(done.Into) != 0 {
		t.Errorf("%+v, %v", done, err)
	}
	if done, err := s.Compact(ctx, c); done != nil || err != nil {
		t.Errorf("again: %+v, %v", done, err)
	}
	must(t, s.Close())
	s = open(t, o)
	list, err := s.Imports(ctx)
	must(t, err)
	st, err := s.State(ctx)
	must(t, err)
	if len(list) != 0 || st.ID != 1 || len(s.Missing()) != 0 {
		t.Errorf("%+v, %+v, missing %v", list, st, s.Missing())
	}
}
