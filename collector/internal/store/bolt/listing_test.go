package bolt

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/query"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func dayName(day int) string { return (store.DayOf(storetest.Start) + store.Day(day)).String() }

func partPath(dir string, day int) string {
	return filepath.Join(dir, layout.Partitions, dayName(day)+layout.Suffix)
}

func copyTo(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(to, b, 0o600))
}

// What hands do to a store of three days, what answers say of it, read-only and by
// the program that writes it, also after another start, and how many days they have.
func TestHandsOnAStore(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		do   func(t *testing.T, dir string)
		want string // in what answers say; "": nothing
		days int
	}{
		{"nothing", func(*testing.T, string) {}, "", 3},
		{"the oldest partition deleted", func(t *testing.T, dir string) {
			must(t, os.Remove(partPath(dir, 0)))
		}, dayName(0) + ".db is missing", 2},
		{"the newest partition deleted", func(t *testing.T, dir string) {
			must(t, os.Remove(partPath(dir, 2)))
		}, dayName(2) + ".db is missing", 2},
		{"one of another store put over one of ours", func(t *testing.T, dir string) {
			copyTo(t, partPath(made(t, 6), 1), partPath(dir, 1))
		}, "foreign: it is of the store ", 2},
		{"one of another store put in", func(t *testing.T, dir string) {
			copyTo(t, partPath(made(t, 8), 3), partPath(dir, 3))
		}, "foreign: it is of the store ", 3},
		{"an older copy of a sealed one", func(t *testing.T, dir string) {
			s := open(t, Options{Dir: dir})
			must(t, s.Close())
			older := partPath(dir, 0) + ".older"
			copyTo(t, partPath(dir, 0), older)
			// A batch for that day makes it the current one, the next seals it again.
			s = open(t, Options{Dir: dir})
			fill(t, s, 7, 4)
			must(t, s.Close())
			must(t, os.Rename(older, partPath(dir, 0)))
		}, "it is not the file that was sealed", 3},
		{"a partition put twice", func(t *testing.T, dir string) {
			copyTo(t, partPath(dir, 1), partPath(dir, 7))
		}, "it says it is of another day", 3},
		{"a partition renamed and put twice", func(t *testing.T, dir string) {
			copyTo(t, partPath(dir, 1), partPath(dir, 7))
			must(t, os.Rename(partPath(dir, 1), partPath(dir, 8)))
		}, "it says it is of another day", -1},
		{"the manifest deleted", func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, manifest.Name)))
		}, "MANIFEST: it is not there", 3},
		{"the manifest flipped", func(t *testing.T, dir string) {
			path := filepath.Join(dir, manifest.Name)
			b, err := os.ReadFile(path)
			must(t, err)
			b[100] ^= 1
			must(t, os.WriteFile(path, b, 0o600))
		}, "its checksum is wrong", 3},
		{"the manifest of another store", func(t *testing.T, dir string) {
			copyTo(t, filepath.Join(made(t, 2), manifest.Name), filepath.Join(dir, manifest.Name))
		}, "MANIFEST: it is of another store", 3},
		{"senders.db of another store", func(t *testing.T, dir string) {
			copyTo(t, filepath.Join(made(t, 2), layout.Senders), filepath.Join(dir, layout.Senders))
		}, "", 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := made(t, 6)
			c.do(t, dir)
			for i, ro := range []bool{true, false, true, false} {
				s, err := Open(Options{Dir: dir, ReadOnly: ro})
				must(t, err)
				n, err := count(s)
				if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), c.want)) {
					t.Errorf("look %d: %v, want %q", i, err, c.want)
				}
				if st, err := s.Stats(context.Background()); err != nil || c.days >= 0 && len(st.Parts) != c.days || c.days < 0 && !ro && n != 6*60 || n != int(st.Events) {
					t.Errorf("look %d: %d days with %d events, %d found, %v", i, len(st.Parts), st.Events, n, err)
				}
				must(t, s.Close())
			}
		})
	}
}

// What is missing is no longer missed when it comes back, when retention passes it
// and, once said to be gone for good, at once.
func TestMissingNoMore(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(t *testing.T, dir, kept string){
		"back":      func(t *testing.T, dir, kept string) { copyTo(t, kept, partPath(dir, 0)) },
		"retention": func(t *testing.T, dir, _ string) { dropDay(t, dir, 1) },
		"forgotten": func(t *testing.T, dir, _ string) {
			s := open(t, Options{Dir: dir})
			n, err := s.Forget(dayName(0))
			if n != 1 || err != nil {
				t.Errorf("forgot %d, %v", n, err)
			}
			must(t, s.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := made(t, 6)
			kept := filepath.Join(t.TempDir(), "kept")
			copyTo(t, partPath(dir, 0), kept)
			must(t, os.Remove(partPath(dir, 0)))
			s := open(t, Options{Dir: dir})
			if len(s.Missing()) != 1 {
				t.Fatal(s.Missing())
			}
			must(t, s.Close())
			do(t, dir, kept)
			s = open(t, Options{Dir: dir})
			if len(s.Missing()) != 0 {
				t.Error(s.Missing())
			}
			must(t, s.Close())
		})
	}
}

func dropDay(t *testing.T, dir string, day int) {
	t.Helper()
	s := open(t, Options{Dir: dir})
	must(t, s.Drop(context.Background(), store.Part{Day: store.DayOf(storetest.Start) + store.Day(day), N: 1}, "max_days = 1"))
	must(t, s.Close())
}

// A query that cannot concern the missing day is not told of it.
func TestMissingOfAnotherTime(t *testing.T) {
	t.Parallel()
	dir := made(t, 6)
	c, err := manifest.Load(fsys.OS, dir)
	must(t, err)
	first := c.Parts[0]
	must(t, os.Remove(partPath(dir, 0)))
	s := open(t, Options{Dir: dir, ReadOnly: true})
	defer s.Close()
	for end, want := range map[int64]bool{first.MinMs - 1: false, first.MinMs: true} {
		err := store.Scan(context.Background(), s, &query.Query{EndMs: end}, func(*event.Event) error { return nil })
		if errors.Is(err, store.ErrDamaged) != want {
			t.Errorf("up to %d: %v", end-first.MinMs, err)
		}
	}
}

// The disk refuses, or the process dies at, each write of the manifest in turn, while
// days are begun, sealed, rotated and dropped: nothing is missed afterwards, and what
// is taken away then is.
func TestManifestFaults(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"open", "write", "sync", "rename", "syncdir"} {
		for n := 1; ; n += need.Size(1, 12) {
			dir := filepath.Join(t.TempDir(), "store")
			f := &failing{FS: fsys.OS, op: op, n: n}
			workManifest(t, dir, f)
			if f.seen < n {
				if n < 4 {
					t.Errorf("%s: done %d times only", op, f.seen)
				}
				break
			}
			s, err := Open(Options{Dir: dir})
			must(t, err)
			if b := s.Missing(); len(b) > 0 {
				t.Fatalf("%s number %d fails: a false alarm: %v", op, n, b)
			}
			st, err := s.Stats(context.Background())
			must(t, err)
			must(t, s.Close())
			for _, d := range st.Parts {
				gone := t.TempDir()
				must(t, os.CopyFS(gone, os.DirFS(dir)))
				must(t, os.Remove(filepath.Join(gone, layout.Partitions, d.String()+layout.Suffix)))
				s, err := Open(Options{Dir: gone, ReadOnly: true})
				must(t, err)
				if len(s.Missing()) == 0 {
					t.Errorf("%s number %d fails: then %s is deleted, and not missed", op, n, d.Part)
				}
				must(t, s.Close())
			}
		}
	}
}

// workManifest is a short life of a store; it ends with the first error.
func workManifest(t *testing.T, dir string, f fsys.FS) {
	t.Helper()
	s, err := Open(Options{Dir: dir, fs: f})
	if err != nil {
		return
	}
	defer s.Close()
	ctx := context.Background()
	g := storetest.NewGenerator(1, storetest.Templates(t), 1, storetest.Start)
	id := uint64(0)
	add := func(day int) error {
		id++
		tab := store.NewTable()
		storetest.Fill(tab, g, 3)
		return s.Append(ctx, &store.Batch{ID: id, Day: store.DayOf(storetest.Start) + store.Day(day), Events: tab, LSN: id})
	}
	for _, step := range []func() error{
		func() error { return add(0) },
		func() error { return add(1) },
		func() error { return s.Rotate(ctx) },
		func() error { return add(1) },
		func() error { return s.Drop(ctx, store.Part{Day: store.DayOf(storetest.Start), N: 1}, "max_days = 1") },
		func() error { return add(2) },
	} {
		if step() != nil {
			return
		}
	}
}

// failing is a filesystem of which the n-th operation of a kind, and all that follow,
// fail, as if the process died there.
type failing struct {
	fsys.FS
	op      string
	n, seen int
}

func (f *failing) step(op string) error {
	if op == f.op {
		f.seen++
	}
	if f.seen >= f.n {
		return syscall.EIO
	}
	return nil
}

func (f *failing) OpenFile(name string, flag int, perm os.FileMode) (fsys.File, error) {
	if flag&os.O_CREATE != 0 {
		if err := f.step("open"); err != nil {
			return nil, err
		}
	}
	file, err := f.FS.OpenFile(name, flag, perm)
	return failingFile{file, f}, err
}

func (f *failing) Rename(from, to string) error {
	if err := f.step("rename"); err != nil {
		return err
	}
	return f.FS.Rename(from, to)
}

func (f *failing) SyncDir(name string) error {
	if err := f.step("syncdir"); err != nil {
		return err
	}
	return f.FS.SyncDir(name)
}

type failingFile struct {
	fsys.File
	f *failing
}

func (f failingFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.f.step("write"); err != nil {
		return 0, err
	}
	return f.File.WriteAt(b, off)
}

func (f failingFile) Sync() error {
	if err := f.f.step("sync"); err != nil {
		return err
	}
	return f.File.Sync()
}
