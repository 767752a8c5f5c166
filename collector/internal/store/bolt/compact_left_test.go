package bolt

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// The disk takes no manifest once a compaction's files have their names, nor lets them go; when it does again, the same days are
// compacted once more, into others. What was left of the first time is never read beside these, removed or not.
func TestCompactLeft(t *testing.T) {
	t.Parallel()
	for _, removed := range []bool{true, false} {
		disk := &watched{FS: fsys.OS}
		s, batches := lateDays(t, disk)
		want := whole(t, s)
		named := false
		disk.before = func(_ int, what string) error {
			if named {
				return unix.ENOSPC
			}
			named = what == "sync the folder partitions"
			return nil
		}
		if _, err := s.Compact(context.Background(), always); err == nil || !named {
			t.Fatalf("it was to fail at the manifest: %v, %v", err, named)
		}
		s.compacting.failed = nil // an hour later
		if done, err := s.Compact(context.Background(), always); done != nil || err != nil {
			t.Errorf("compacted while what was left cannot be removed: %v, %v", done, err)
		}
		disk.before = nil
		if !removed { // as programs of before left it
			s.compacting.left = nil
		}
		compactAll(t, s)
		files, err := layout.List(s.opts.Dir)
		must(t, err)
		stats, err := s.Stats(context.Background())
		must(t, err)
		if n := len(files.Partitions) - len(stats.Parts); (n == 0) != removed {
			t.Errorf("%d files were left, removed %v", n, removed)
		}
		for _, ro := range []bool{true, false} {
			must(t, s.Close())
			s = open(t, Options{Dir: s.opts.Dir, now: later, ReadOnly: ro})
			if d := cmp.Diff(want, whole(t, s)); d != "" {
				t.Fatalf("removed %v, read-only %v (-before +after):\n%.1000s", removed, ro, d)
			}
		}
		goesOn(t, s, "compacted again", want, batches)
		must(t, s.Close())
	}
}

// A partition that cannot be read keeps no other day from being compacted.
func TestCompactBesideUnreadable(t *testing.T) {
	t.Parallel()
	s, _ := lateDays(t, fsys.OS)
	must(t, s.CatchUp(context.Background(), false))
	must(t, s.parts[1].close())
	if done, err := s.Compact(context.Background(), always); done == nil || err != nil {
		t.Errorf("%v, %v", done, err)
	}
}

// What is lost stays said when an import is taken back: that says nothing of older days.
func TestUndoForgetsNoLoss(t *testing.T) {
	t.Parallel()
	dir := made(t, 6)
	day := store.DayOf(storetest.Start)
	must(t, os.Remove(layout.PartitionPath(dir, store.Part{Day: day, N: 1})))
	s := open(t, Options{Dir: dir})
	tab := store.NewTable()
	tab.Add("a", storetest.Parse("a", "type=USER_END msg=audit(1763000000.001:1): x=1"))
	must(t, s.Append(context.Background(), &store.Batch{ID: 7, Day: day + 2, Events: tab, LSN: 600, Import: &store.Import{Name: "old"}}))
	must(t, s.EndImport(context.Background(), "old"))
	_, err := s.UndoImport(context.Background(), "old", "a wrong folder")
	must(t, err)
	for range 2 {
		if list := s.Missing(); len(list) != 1 {
			t.Errorf("missing: %v", list)
		}
		must(t, s.Close())
		s = open(t, Options{Dir: dir})
	}
	must(t, s.Drop(context.Background(), store.Part{Day: day + 1, N: 1}, "max_days = 1"))
	if list := s.Missing(); len(list) != 0 {
		t.Errorf("missing, though later days were dropped: %v", list)
	}
}

// A day of more groups than are read side by side is the same day.
func TestCompactManyGroups(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Dir: filepath.Join(t.TempDir(), "store"), now: later})
	day := store.DayOf(storetest.Start)
	for id := uint64(1); id <= 601; id++ {
		tab := store.NewTable()
		ms := storetest.Start.UnixMilli() + int64(id%7)
		tab.Add("a", storetest.Parse("a", fmt.Sprintf("type=USER_TTY msg=audit(%d.%03d:%d): text", ms/1000, ms%1000, id)))
		must(t, s.Append(context.Background(), &store.Batch{ID: id, Day: day + store.Day(id/601), Events: tab, LSN: id}))
	}
	want := whole(t, s)
	if n := compactAll(t, s); n != 1 {
		t.Errorf("%d compactions", n)
	}
	if d := cmp.Diff(want, whole(t, s)); d != "" {
		t.Errorf("(-before +after):\n%.1000s", d)
	}
	for _, p := range s.parts {
		if p.compacted != nil && len(p.entries) != 2 {
			t.Errorf("%s has %d groups, want 2", p.part, len(p.entries))
		}
	}
}
