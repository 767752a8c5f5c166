package locallog

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/internal/need"
)

// What another program does to the open log is noticed: nothing is lost by a rename, a
// cut is followed, and what went into a removed file is counted to the record.
func TestNameTaken(t *testing.T) {
	for _, c := range []struct {
		name     string
		do       func(path string) error
		nameless uint64
		reopened uint64
		files    map[string]string
	}{
		{"removed", os.Remove, 2, 1, map[string]string{"audit.log": "3\n4\n"}},
		{"folder removed", func(p string) error { return os.RemoveAll(filepath.Dir(p)) }, 2, 1, map[string]string{"audit.log": "3\n4\n"}},
		{"renamed", func(p string) error { return os.Rename(p, p+".1") }, 0, 1, map[string]string{"audit.log": "3\n4\n", "audit.log.1": "1\n2\n"}},
		{"logrotate create", func(p string) error {
			if err := os.Rename(p, p+".1"); err != nil {
				return err
			}
			return os.WriteFile(p, nil, 0o644)
		}, 0, 1, map[string]string{"audit.log": "3\n4\n", "audit.log.1": "1\n2\n"}},
		{"replaced", func(p string) error {
			if err := os.WriteFile(p+"~", []byte("other\n"), 0o600); err != nil {
				return err
			}
			return os.Rename(p+"~", p)
		}, 2, 1, map[string]string{"audit.log": "other\n3\n4\n"}},
		{"copytruncate", func(p string) error { return os.Truncate(p, 0) }, 0, 0, map[string]string{"audit.log": "2\n3\n4\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log", "audit.log")
			now := time.Unix(1700000000, 0)
			l, err := Open(Config{Path: path, NumLogs: 5, Now: func() time.Time { return now }})
			if err != nil {
				t.Fatal(err)
			}
			write := func(n int) { l.WriteLines(fmt.Appendf(nil, "%d\n", n), 1) }
			write(1) // it is not seen again in its place before it goes
			if c.nameless == 0 {
				write(2)
			}
			if err := c.do(path); err != nil {
				t.Fatal(err)
			}
			if c.nameless > 0 || c.reopened == 0 {
				write(2) // within lookEvery
			}
			now = now.Add(time.Second)
			l.Tick()
			write(3)
			write(4)
			s := l.Stats()
			if s.Nameless != c.nameless || s.Reopened != c.reopened || s.Dropped != 0 {
				t.Errorf("nameless %d, reopened %d, dropped %d; want %d, %d, 0", s.Nameless, s.Reopened, s.Dropped, c.nameless, c.reopened)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			got := map[string]string{}
			for name := range c.files {
				b, err := os.ReadFile(filepath.Join(filepath.Dir(path), name))
				if err != nil {
					t.Error(err)
				}
				got[name] = string(b)
			}
			if diff := cmp.Diff(c.files, got); diff != "" {
				t.Error(diff)
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
		})
	}
}

// A log that can't be opened again is one that can't be written: counted, tried again.
func TestNameTakenForGood(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	now := time.Unix(1700000000, 0)
	l, err := Open(Config{Path: path, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	l.Tick()
	l.WriteLines([]byte("1\n"), 1)
	if s := l.Stats(); s.Dropped != 1 || s.Nameless != 0 || !l.State().Failing {
		t.Errorf("%+v", s)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * retryEvery)
	l.WriteLines([]byte("2\n"), 1)
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "2\n" {
		t.Errorf("%q, %v", b, err)
	}
}

// log_group that is set later reaches the folder and the files that are there, as with
// stock auditd 3.0.9: 0700 becomes 0750, audit.log 0640, rotated logs 0440. What is not
// the log's stays as it is, and so does a folder that everybody may read.
func TestGroupOfAnExistingFolder(t *testing.T) {
	need.Root(t)
	group, err := user.LookupGroup("adm")
	if err != nil {
		need.Missing(t, "no group adm: "+err.Error())
	}
	gid, err := strconv.Atoi(group.Gid)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ mode, want os.FileMode }{{0o700, 0o750}, {0o755, 0o755}} {
		dir := filepath.Join(t.TempDir(), "log")
		if err := errors.Join(os.Mkdir(dir, c.mode), os.Chmod(dir, c.mode)); err != nil { // whatever the umask
			t.Fatal(err)
		}
		path := filepath.Join(dir, "audit.log")
		for _, f := range []string{path, path + ".1", path + ".2.zst", dir + "/other"} {
			if err := os.WriteFile(f, []byte("x\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		l, err := Open(Config{Path: path, NumLogs: 5, GID: gid})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		for f, mode := range map[string]os.FileMode{dir: c.want, path: 0o640, path + ".1": 0o440, path + ".2.zst": 0o440, dir + "/other": 0o600} {
			info, err := os.Stat(f)
			if err != nil {
				t.Fatal(err)
			}
			given := int(info.Sys().(*syscall.Stat_t).Gid) == gid
			if info.Mode().Perm() != mode || given != (mode&0o040 != 0 && mode != 0o755) {
				t.Errorf("%s: mode %v, of log_group %v", f, info.Mode(), given)
			}
		}
	}
}
