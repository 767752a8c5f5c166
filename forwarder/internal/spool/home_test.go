package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// onDisk opens a spool of small segments in a folder of the system's and puts three
// segments of records into it, of which the first ten are acknowledged.
func onDisk(t *testing.T, path string) (s *Spool, lines []string) {
	t.Helper()
	s = open(t, fsys.OS, func(o *Options) { o.Dir, o.SegmentBytes, o.HotBytes = path, 64<<10, 8<<10 })
	lines = more(t, s, nil, 1500)
	must(t, s.Sync())
	must(t, s.Ack(10))
	return s, lines
}

func more(t *testing.T, s *Spool, lines []string, n int) []string {
	t.Helper()
	// Under -short a tenth as many, which are ten times as long.
	for range n / need.Size(1, 10) {
		l := fmt.Sprintf("record %d %s", len(lines)+1, strings.Repeat("x", need.Size(100, 1000)))
		add(t, s, l)
		lines = append(lines, l)
	}
	return lines
}

// wants compares what a new reader has with the lines behind the tenth.
func wants(t *testing.T, s *Spool, when string, lines []string) {
	t.Helper()
	r := s.Reader()
	defer r.Close()
	var got []string
	for _, x := range rest(t, r) {
		got = append(got, x.Line)
	}
	if diff := cmp.Diff(lines[10:], got); diff != "" {
		t.Fatalf("%s: %s", when, diff)
	}
}

// Whatever is removed, renamed or replaced under the open spool, its records are read
// meanwhile, the spool is there again at the next look, and a later Open has all of them.
func TestFolderTakenAway(t *testing.T) {
	t.Parallel()
	inFolder := func(path string, do func(name string) error) error {
		entries, err := os.ReadDir(path)
		for _, e := range entries {
			err = errors.Join(err, do(filepath.Join(path, e.Name())))
		}
		return err
	}
	for name, attack := range map[string]func(path string) error{
		"the folder removed":       os.RemoveAll,
		"the folder above removed": func(path string) error { return os.RemoveAll(filepath.Dir(path)) },
		"its files removed":        func(path string) error { return inFolder(path, os.Remove) },
		"the folder renamed":       func(path string) error { return os.Rename(path, path+".old") },
		"another folder":           func(path string) error { return errors.Join(os.Rename(path, path+".old"), os.Mkdir(path, 0o700)) },
		"a link to another": func(path string) error {
			return errors.Join(os.Rename(path, path+".old"), os.Mkdir(path+".new", 0o700), os.Symlink(path+".new", path))
		},
		"the state removed": func(path string) error { return os.Remove(filepath.Join(path, stateName)) },
		"the lock removed":  func(path string) error { return os.Remove(filepath.Join(path, "lock")) },
		"a copy in its place": func(path string) error {
			return errors.Join(os.CopyFS(path+".new", os.DirFS(path)), os.Rename(path, path+".old"), os.Rename(path+".new", path))
		},
		"the oldest segment removed": func(path string) error {
			return os.Remove(filepath.Join(path, segments(path)[0]))
		},
		"the newest segment renamed": func(path string) error {
			all := segments(path)
			return os.Rename(filepath.Join(path, all[len(all)-1]), path+".moved")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := t.TempDir() + "/above/spool"
			s, lines := onDisk(t, path)
			if n := len(segments(path)); n < 3 {
				t.Fatalf("%d segments", n)
			}
			must(t, attack(path))
			wants(t, s, "before it is noticed", lines)
			lines = more(t, s, lines, 1500) // more than a segment holds
			wants(t, s, "with more", lines)
			s.keepHome()
			if why := s.Away(); why != "" || s.Counts().Moved != 1 {
				t.Fatalf("away: %q, moved %d times", why, s.Counts().Moved)
			}
			wants(t, s, "once it is noticed", lines)
			lines = more(t, s, lines, 800)
			s.keepHome()
			if s.Counts().Moved != 1 {
				t.Errorf("moved %d times", s.Counts().Moved)
			}
			must(t, s.Close())
			s = open(t, fsys.OS, func(o *Options) { o.Dir = path })
			wants(t, s, "after a restart", lines)
			if n := s.Counts().Damaged; n != 0 {
				t.Errorf("%d damaged", n)
			}
		})
	}
}

func segments(path string) []string {
	names, err := fsys.OS.ReadDir(path)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(names, func(n string) bool { return !strings.HasSuffix(n, ".seg") })
}

// Close is the last look: what is removed just before loses nothing either.
func TestFolderTakenAwayAtTheEnd(t *testing.T) {
	path := t.TempDir() + "/spool"
	s, lines := onDisk(t, path)
	must(t, os.RemoveAll(path))
	must(t, s.Close())
	wants(t, open(t, fsys.OS, func(o *Options) { o.Dir = path }), "after a restart", lines)
}

// What stands in the spool's place and is not the spool's is left as it is, and said.
// Records are taken and read meanwhile, and freed once they are acknowledged; the spool
// comes back when its place is free.
func TestFolderReplacedByAnother(t *testing.T) {
	t.Parallel()
	for name, put := range map[string]func(t *testing.T, path string){
		"a file": func(t *testing.T, path string) { must(t, os.WriteFile(path, []byte("mine"), 0o600)) },
		"another spool": func(t *testing.T, path string) {
			other := open(t, fsys.OS, func(o *Options) { o.Dir = path })
			add(t, other, "another's")
			must(t, other.Close())
		},
		"another spool in use": func(t *testing.T, path string) { open(t, fsys.OS, func(o *Options) { o.Dir = path }) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := t.TempDir() + "/spool"
			s, lines := onDisk(t, path)
			must(t, os.Rename(path, path+".old"))
			put(t, path)
			before := listing(t, path)
			for range 3 {
				s.keepHome()
				lines = more(t, s, lines, 1000)
				must(t, s.Sync())
			}
			if s.Away() == "" || s.Stats().Moved != 1 {
				t.Fatalf("away: %q, moved %d times", s.Away(), s.Stats().Moved)
			}
			wants(t, s, "while it is away", lines)
			if diff := cmp.Diff(before, listing(t, path)); diff != "" {
				t.Errorf("what stood in its place was changed: %s", diff)
			}
			must(t, os.Rename(path, path+".theirs"))
			s.keepHome()
			if why := s.Away(); why != "" {
				t.Fatal(why)
			}
			wants(t, s, "when it is back", lines)
			must(t, s.Close())
			wants(t, open(t, fsys.OS, func(o *Options) { o.Dir = path }), "after a restart", lines)
		})
	}
}

// Records that go with the spool's files are said to be gone; none are when it comes home.
func TestFolderAwayAtTheEnd(t *testing.T) {
	for _, back := range []bool{false, true} {
		path := t.TempDir() + "/spool"
		var log bytes.Buffer
		s := open(t, fsys.OS, func(o *Options) { o.Dir, o.Logger = path, hclog.New(&hclog.LoggerOptions{Output: &log}) })
		add(t, s, "one", "two", "three")
		must(t, s.Ack(1))
		must(t, os.RemoveAll(path))
		must(t, os.WriteFile(path, nil, 0o600))
		s.keepHome()
		if back {
			must(t, os.Remove(path))
		}
		must(t, s.Close())
		if got := strings.Contains(log.String(), "are gone: "); got == back || !back && !strings.Contains(log.String(), "records=2\n") {
			t.Errorf("back %v: %s", back, log.String())
		}
	}
}

// listing is a file's bytes, or the names in a folder with their bytes.
func listing(t *testing.T, path string) map[string]string {
	t.Helper()
	all := map[string]string{}
	must(t, filepath.WalkDir(path, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		all[name] = string(b)
		return err
	}))
	return all
}

// A folder that is renamed and put back again is the spool's as before.
func TestFolderPutBack(t *testing.T) {
	path := t.TempDir() + "/spool"
	s, lines := onDisk(t, path)
	must(t, os.Rename(path, path+".old"))
	must(t, os.WriteFile(path, nil, 0o600))
	s.keepHome()
	if s.Away() == "" {
		t.Fatal("it is not away")
	}
	must(t, os.Remove(path))
	must(t, os.Rename(path+".old", path))
	s.keepHome()
	if why := s.Away(); why != "" {
		t.Fatal(why)
	}
	wants(t, s, "put back", lines)
}

// The syncer looks by itself, and a reader that waits at the end goes on.
func TestFolderWatched(t *testing.T) {
	path := t.TempDir() + "/spool"
	s := open(t, fsys.OS, func(o *Options) { o.Dir, o.SyncInterval = path, 5*time.Millisecond })
	add(t, s, "one")
	r := s.Reader()
	defer r.Close()
	rest(t, r)
	must(t, os.RemoveAll(path))
	for end := time.Now().Add(time.Minute); s.Counts().Moved == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it is not noticed")
		}
	}
	add(t, s, "two")
	if got := rest(t, r); len(got) != 1 || got[0].Line != "two" {
		t.Errorf("%+v", got)
	}
	if _, _, _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}
