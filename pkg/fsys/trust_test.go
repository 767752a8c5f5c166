package fsys

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/internal/need"
)

const nobody = 65534

// planted makes a folder that all may write, with a file of root's beside it and what
// an attacker put under each name: links to that file, a FIFO and a file of nobody's.
func planted(t *testing.T, sticky bool, suffix string) (dir, victim string, names []string) {
	t.Helper()
	need.Root(t)
	dir = filepath.Join(t.TempDir(), "shared")
	victim = filepath.Join(filepath.Dir(dir), "victim")
	names = []string{"symlink", "dangling", "hardlink", "fifo", "file"}
	at := func(name string) string { return filepath.Join(dir, name+suffix) }
	mode := os.FileMode(0o777)
	if sticky {
		mode |= os.ModeSticky
	}
	for _, err := range []error{
		os.Mkdir(dir, 0o700), os.Chmod(dir, mode), os.WriteFile(victim, []byte("root's"), 0o600),
		os.Symlink(victim, at("symlink")), os.Symlink(victim+".new", at("dangling")), os.Link(victim, at("hardlink")), unix.Mkfifo(at("fifo"), 0o666),
		os.WriteFile(at("file"), []byte("nobody's"), 0o666), os.Chmod(at("file"), 0o666),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range names {
		if name == "hardlink" {
			continue // it is the file itself
		}
		if err := os.Lchown(at(name), nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if b, err := os.ReadFile(victim); err != nil || string(b) != "root's" {
			t.Errorf("root's file has %q (%v)", b, err)
		}
		if _, err := os.Lstat(victim + ".new"); !errors.Is(err, fs.ErrNotExist) {
			t.Error("a file was made where a link points to")
		}
	})
	return dir, victim, names
}

// What was planted under the name of a temporary file is not written to, and does not
// keep the file from being replaced.
func TestReplacePlanted(t *testing.T) {
	dir, _, names := planted(t, true, ".tmp")
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := Replace(path, []byte("new"), 0o600, true); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		info, err := os.Lstat(path)
		b, rerr := os.ReadFile(path)
		if err != nil || rerr != nil || !info.Mode().IsRegular() || string(b) != "new" {
			t.Errorf("%s: %v, %q, %v, %v", name, info, b, err, rerr)
		}
	}
}

// Locks, state files and those of a store are never what somebody else put there.
func TestOpenPlanted(t *testing.T) {
	dir, _, names := planted(t, true, "")
	for _, name := range names {
		path := filepath.Join(dir, name)
		var unsafe *UnsafeError
		if l, err := OS.Lock(path); err == nil {
			l.Close()
			t.Errorf("%s: locked", name)
		} else if !errors.As(err, &unsafe) && !errors.Is(err, fs.ErrPermission) { // where the kernel protects links
			t.Errorf("%s: %v", name, err)
		}
		if f, err := OpenOwn(path, os.O_RDWR|os.O_CREATE, 0o600); err == nil {
			f.Close()
			t.Errorf("%s: opened as our own", name)
		}
		if name != "file" && name != "hardlink" { // those, CheckDir keeps away
			if f, err := OS.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600); err == nil {
				f.Close()
				t.Errorf("%s: opened", name)
			}
		}
	}
	for _, name := range []string{"fifo", "file", "dangling"} {
		if b, err := ReadTrusted(filepath.Join(dir, name), 100); err == nil {
			t.Errorf("%s: trusted: %q", name, b)
		}
	}
	if b, err := ReadTrusted(filepath.Join(dir, "symlink"), 100); err != nil || string(b) != "root's" { // what it points to is root's
		t.Errorf("%q, %v", b, err)
	}
	if err := CheckLink(filepath.Join(dir, "symlink")); err == nil {
		t.Error("a link of nobody's")
	}
	var unsafe *UnsafeError
	if _, err := ReadRegular(filepath.Join(dir, "hardlink"), 3); !errors.As(err, &unsafe) {
		t.Errorf("more than allowed: %v", err)
	}
}

// A folder that others may write, or that is another's, is refused with what to do.
func TestCheckDir(t *testing.T) {
	need.Root(t)
	for _, c := range []struct {
		mode      os.FileMode
		uid, gid  int
		want      string
		stickyToo bool
	}{
		{0o700, 0, 0, "", false},
		{0o755, 0, 0, "", false},
		{0o710, 0, 0, "", false},
		{0o777, 0, 0, "others may write", false},
		{0o777, 0, 0, "others may write", true},
		{0o777 | os.ModeSticky, 0, 0, "others may write", false},
		{0o777 | os.ModeSticky, 0, 0, "", true},
		{0o770, 0, 0, "", false}, // root's group, or our own: umask 002
		{0o775, 0, 0, "", false},
		{0o770, 0, nobody, "others may write", false},
		{0o750, 0, nobody, "", false},
		{0o700, nobody, 0, "belongs to uid 65534", false},
		{0o777 | os.ModeSticky, nobody, 0, "belongs to uid 65534", true},
	} {
		dir := filepath.Join(t.TempDir(), "d")
		for _, err := range []error{os.Mkdir(dir, 0o700), os.Chmod(dir, c.mode), os.Chown(dir, c.uid, c.gid)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		errs := []error{CheckDir(dir, c.stickyToo)}
		if !c.stickyToo {
			errs = append(errs, OS.MkdirAll(dir, 0o700))
		}
		for _, err := range errs {
			switch {
			case c.want == "" && err != nil, c.want != "" && err == nil:
				t.Errorf("%v of %d:%d: %v", c.mode, c.uid, c.gid, err)
			case err != nil && (!strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir+", or choose another one")):
				t.Errorf("%v of %d:%d: %v does not say what to do", c.mode, c.uid, c.gid, err)
			}
		}
	}
}
