package fsys

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/google/go-cmp/cmp"
)

func TestOS(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	if err := OS.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "x")
	f, err := OS.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Allocate(0, 10000); errors.Is(err, ErrUnsupported) {
		t.Log("no fallocate here")
	} else if err != nil {
		t.Fatal(err)
	} else if n, err := f.Size(); n != 10000 || err != nil {
		t.Fatalf("size %d after Allocate: %v", n, err)
	}
	if _, err := f.WriteAt([]byte("hello"), 100); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Datasync(), f.Sync(), f.Truncate(105), OS.Rename(path, path+"y"), OS.SyncDir(dir)); err != nil {
		t.Fatal(err)
	}
	if n, err := OS.Size(path + "y"); n != 105 || err != nil {
		t.Fatal(n, err)
	}
	names, err := OS.ReadDir(dir)
	if d := cmp.Diff([]string{"xy"}, names); d != "" || err != nil {
		t.Fatal(d, err)
	}
	b := make([]byte, 5)
	if _, err := f.ReadAt(b, 100); err != nil || string(b) != "hello" {
		t.Fatal(string(b), err)
	}
	if err := OS.Remove(path + "y"); err != nil {
		t.Fatal(err)
	}
	if _, err := OS.OpenFile(path, os.O_RDWR, 0); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{f.Datasync(), f.Allocate(0, 1), OS.SyncDir(path)} {
		if err == nil {
			t.Error("no error on what is not there")
		}
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	l, err := OS.Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = OS.Lock(path)
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, err = OS.Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	link := path + "2"
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, err := OS.Lock(link); err == nil {
		t.Error("a symbolic link was followed")
	}
}

// A program that is being started has a copy of every open file for a moment.
func TestLockEndsWithCloseBesideACopy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	l, err := OS.Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(int(l.(Locked).Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, err = OS.Lock(path)
	if err != nil {
		t.Fatalf("the lock outlived Close: %v", err)
	}
	l.Close()
}
