package bolt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// watched is a filesystem that says before each operation that changes something, by number, and may refuse it.
type watched struct {
	fsys.FS
	n      int
	before func(n int, what string) error
}

func (w *watched) step(what string) error {
	if w.before == nil {
		return nil
	}
	w.n++
	return w.before(w.n, what)
}

func (w *watched) OpenFile(name string, flag int, perm os.FileMode) (fsys.File, error) {
	if flag&os.O_CREATE != 0 {
		if err := w.step("create " + filepath.Base(name)); err != nil {
			return nil, err
		}
	}
	f, err := w.FS.OpenFile(name, flag, perm)
	return watchedFile{f, w, filepath.Base(name)}, err
}

func (w *watched) Rename(from, to string) error {
	if err := w.step("rename " + filepath.Base(to)); err != nil {
		return err
	}
	return w.FS.Rename(from, to)
}

func (w *watched) Remove(name string) error {
	if err := w.step("remove " + filepath.Base(name)); err != nil {
		return err
	}
	return w.FS.Remove(name)
}

func (w *watched) SyncDir(name string) error {
	if err := w.step("sync the folder " + filepath.Base(name)); err != nil {
		return err
	}
	return w.FS.SyncDir(name)
}

type watchedFile struct {
	fsys.File
	w    *watched
	name string
}

func (f watchedFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.w.step("write " + f.name); err != nil {
		return 0, err
	}
	return f.File.WriteAt(b, off)
}

func (f watchedFile) Datasync() error {
	if err := f.w.step("sync the data of " + f.name); err != nil {
		return err
	}
	return f.File.Datasync()
}

func (f watchedFile) Sync() error {
	if err := f.w.step("sync " + f.name); err != nil {
		return err
	}
	return f.File.Sync()
}

// lateDays is a store of three days, some of whose events came a day late.
func lateDays(t *testing.T, disk fsys.FS) (s *Store, batches uint64) {
	t.Helper()
	s = open(t, Options{Dir: filepath.Join(t.TempDir(), "store"), now: later, fs: disk})
	for id := uint64(1); id <= 6; id++ {
		day := int(id-1) / 2
		tab := store.NewTable()
		for i := range 2 {
			g := storetest.NewGenerator(id, storetest.Templates(t), 2, storetest.Start.AddDate(0, 0, day-i))
			storetest.Fill(tab, g, 20-10*i)
		}
		must(t, s.Append(context.Background(), &store.Batch{ID: id, Day: store.DayOf(storetest.Start) + store.Day(day), Events: tab, LSN: 100 * id,
			Hosts: []store.Host{{Name: "web1", Records: id}}}))
	}
	return s, 6
}

// goesOn compacts what is left of a store, and stores another batch in it.
func goesOn(t *testing.T, s *Store, what string, want []string, batches uint64) {
	t.Helper()
	if d := cmp.Diff(want, whole(t, s)); d != "" {
		t.Errorf("%s (-before +after):\n%.1000s", what, d)
	}
	if b := s.Missing(); len(b) > 0 {
		t.Errorf("%s: a false alarm: %v", what, b)
	}
	allSealed(t, s, what)
	s.compacting.failed = nil
	compactAll(t, s)
	allSealed(t, s, what+", and compacted after that")
	if d := cmp.Diff(want, whole(t, s)); d != "" {
		t.Errorf("%s, and compacted after that (-before +after):\n%.1000s", what, d)
	}
	st, err := s.State(context.Background())
	must(t, err)
	if st.ID != batches || st.LSN != 100*batches || len(st.Hosts) != 1 || st.Hosts[0].Records != batches {
		t.Errorf("%s: state %+v", what, st)
	}
	for i := range 2 {
		tab := store.NewTable()
		tab.Add("late", storetest.Parse("late", fmt.Sprintf("type=USER_TTY msg=audit(1000.000:%d): x", i)))
		must(t, s.Append(context.Background(), &store.Batch{ID: batches + uint64(i) + 1, Day: store.DayOf(storetest.Start) + 2*store.Day(i), Events: tab, LSN: 1000}))
	}
	if n := len(storetest.Collect(t, s, &query.Query{Nodes: []string{"late"}})); n != 2 {
		t.Errorf("%s: %d of two more batches are found", what, n)
	}
	stats, err := s.Stats(context.Background())
	must(t, err)
	if int(stats.Events) != len(want)+2 {
		t.Errorf("%s: %d events, want %d", what, stats.Events, len(want)+2)
	}
	files, err := os.ReadDir(filepath.Join(s.opts.Dir, "partitions"))
	must(t, err)
	if len(files) != len(stats.Parts) {
		t.Errorf("%s: %d files of %d partitions: %v", what, len(files), len(stats.Parts), files)
	}
}

// A collector that is killed before any operation on the disk has each event once at the next start, and can go on.
func TestCompactKilled(t *testing.T) {
	t.Parallel()
	disk := &watched{FS: fsys.OS}
	s, batches := lateDays(t, disk)
	want := whole(t, s)
	type copied struct{ dir, what string }
	var all []copied
	disk.before = func(n int, what string) error {
		to := filepath.Join(t.TempDir(), "store")
		must(t, os.CopyFS(to, os.DirFS(s.opts.Dir)))
		all = append(all, copied{to, fmt.Sprintf("killed before operation %d: %s", n, what)})
		return nil
	}
	if n := compactAll(t, s); n != 2 {
		t.Errorf("%d compactions", n)
	}
	disk.before = nil
	for i := 0; i < len(all); i += need.Size(1, 24) {
		c := all[i]
		s := open(t, Options{Dir: c.dir, now: later, ReadOnly: true})
		if d := cmp.Diff(want, whole(t, s)); d != "" {
			t.Errorf("%s, read only (-before +after):\n%.1000s", c.what, d)
		}
		must(t, s.Close())
		s = open(t, Options{Dir: c.dir, now: later})
		goesOn(t, s, c.what, want, batches)
		must(t, s.Close())
		must(t, os.RemoveAll(c.dir))
	}
	if len(all) < 20 {
		t.Errorf("killed before %d operations only", len(all))
	}
}

// Whichever operation fails, once or from then on, the store goes on without harm.
func TestCompactOperationFails(t *testing.T) {
	t.Parallel()
	first, batches := lateDays(t, fsys.OS)
	want := whole(t, first)
	must(t, first.Close())
	for _, forever := range []bool{false, true} {
		for at := 1; ; at += need.Size(1, 25) {
			disk, dir := &watched{FS: fsys.OS}, filepath.Join(t.TempDir(), "store")
			must(t, os.CopyFS(dir, os.DirFS(first.opts.Dir)))
			s := open(t, Options{Dir: dir, now: later, fs: disk})
			failed := ""
			disk.before = func(n int, what string) error {
				if n == at || forever && n > at {
					failed = what
					return unix.EIO
				}
				return nil
			}
			for range 2 {
				_, _ = s.Compact(context.Background(), always) // it may have failed
			}
			what := fmt.Sprintf("operation %d fails, forever %v: %s", at, forever, failed)
			if d := cmp.Diff(want, whole(t, s)); d != "" {
				t.Errorf("%s (-before +after):\n%.1000s", what, d)
			}
			disk.before = nil
			must(t, s.Close())
			s = open(t, Options{Dir: dir, now: later})
			goesOn(t, s, what, want, batches)
			must(t, errors.Join(s.Close(), os.RemoveAll(dir)))
			if failed == "" {
				t.Logf("forever %v: %d operations", forever, at-1)
				break
			}
		}
	}
}
