package faultfs

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"syscall"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

func create(t *testing.T, f fsys.FS, name string) fsys.File {
	t.Helper()
	h, err := f.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func content(t *testing.T, f *FS, name string) []byte {
	t.Helper()
	h, err := f.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil
	}
	size, _ := h.Size()
	b := make([]byte, size)
	if _, err := h.ReadAt(b, 0); err != nil && size > 0 {
		t.Fatal(err)
	}
	h.Close()
	return b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// What is synced survives every crash; what is not is sometimes there, sometimes
// not, and sometimes in part.
func TestCrashKeepsSyncedOnly(t *testing.T) {
	outcomes := map[string]int{}
	for seed := range int64(200) {
		f := New(seed)
		h := create(t, f, "/a")
		must(t, f.SyncDir("/"))
		old := bytes.Repeat([]byte{1}, 3*Sector)
		_, err := h.WriteAt(old, 0)
		must(t, err)
		must(t, h.Datasync())
		_, err = h.WriteAt(bytes.Repeat([]byte{2}, 2*Sector), 2*Sector)
		must(t, err)
		f.Crash()
		if _, err := h.WriteAt(old, 0); !errors.Is(err, ErrPower) {
			t.Fatalf("seed %d: a handle of before the crash works: %v", seed, err)
		}
		got := content(t, f, "/a")
		if len(got) < len(old) || !bytes.Equal(got[:2*Sector], old[:2*Sector]) {
			t.Fatalf("seed %d: synced bytes are gone", seed)
		}
		switch {
		case bytes.Count(got, []byte{2}) == 0:
			outcomes["none"]++
		case bytes.Count(got, []byte{2}) == 2*Sector:
			outcomes["all"]++
		default:
			outcomes["part"]++
		}
	}
	if len(outcomes) != 3 {
		t.Errorf("outcomes: %v", outcomes)
	}
}

func TestTruncatedBytesMayComeBack(t *testing.T) {
	back := 0
	for seed := range int64(100) {
		f := New(seed)
		h := create(t, f, "/a")
		must(t, f.SyncDir("/"))
		_, err := h.WriteAt(bytes.Repeat([]byte{1}, 2*Sector), 0)
		must(t, err)
		must(t, h.Sync())
		must(t, h.Truncate(10))
		f.Crash()
		if got := content(t, f, "/a"); bytes.Count(got, []byte{1}) == 2*Sector {
			back++
		} else if !bytes.Equal(got[:10], bytes.Repeat([]byte{1}, 10)) {
			t.Fatalf("seed %d: lost bytes that were not truncated", seed)
		}
	}
	if back == 0 || back == 100 {
		t.Errorf("came back %d times of 100", back)
	}
}

func TestFailedSyncLosesPagesForGood(t *testing.T) {
	lost, rewritten := 0, 0
	for seed := range int64(50) {
		for _, again := range []bool{false, true} {
			f := New(seed)
			h := create(t, f, "/a")
			must(t, f.SyncDir("/"))
			_, err := h.WriteAt([]byte("data"), 0)
			must(t, err)
			f.Fail(Sync, 1, syscall.EIO)
			if err := h.Datasync(); !errors.Is(err, syscall.EIO) {
				t.Fatal(err)
			}
			if string(content(t, f, "/a")) != "data" {
				t.Fatal("the page cache has forgotten the bytes")
			}
			if again {
				_, err = h.WriteAt([]byte("data"), 0)
				must(t, err)
			}
			must(t, h.Datasync())
			f.Crash()
			switch kept := string(content(t, f, "/a")) == "data"; {
			case again && !kept:
				t.Fatalf("seed %d: bytes written again and synced are gone", seed)
			case again:
				rewritten++
			case !kept:
				lost++
			}
		}
	}
	if lost == 0 || rewritten != 50 {
		t.Errorf("lost %d, rewritten %d", lost, rewritten)
	}
}

func TestFolderEntriesNeedSyncDir(t *testing.T) {
	seen := map[string]int{}
	for seed := range int64(100) {
		f := New(seed)
		must(t, f.MkdirAll("/d", 0o700))
		must(t, f.SyncDir("/"))
		create(t, f, "/d/old")
		must(t, f.SyncDir("/d"))
		must(t, f.Rename("/d/old", "/d/new"))
		f.Crash()
		names, err := f.ReadDir("/d")
		must(t, err)
		if len(names) != 1 {
			t.Fatalf("seed %d: a rename left %v", seed, names)
		}
		seen[names[0]]++
	}
	if len(seen) != 2 {
		t.Errorf("%v", seen)
	}
}

func TestFaultsAndSpace(t *testing.T) {
	f := New(1)
	h := create(t, f, "/a")
	f.Fail(Write, 2, syscall.EIO)
	_, err := h.WriteAt(make([]byte, 100), 0)
	must(t, err)
	if n, err := h.WriteAt(make([]byte, 100), 100); !errors.Is(err, syscall.EIO) || n > 100 {
		t.Errorf("second write: %d, %v", n, err)
	}
	must(t, h.Truncate(100))
	f.SetSpace(50)
	if n, err := h.WriteAt(make([]byte, 100), 100); n != 50 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("write on a full disk: %d, %v", n, err)
	}
	must(t, h.Truncate(0))
	_, err = h.WriteAt(make([]byte, 150), 0)
	must(t, err)
	if f.OpenFiles() != 1 {
		t.Errorf("%d handles", f.OpenFiles())
	}
	must(t, h.Close())
	if err := h.Close(); !errors.Is(err, fs.ErrClosed) || f.OpenFiles() != 0 {
		t.Errorf("second Close: %v, %d handles", err, f.OpenFiles())
	}
	f.CutPower(1)
	if err := f.SyncDir("/"); !errors.Is(err, ErrPower) {
		t.Error(err)
	}
	if _, err := f.ReadDir("/"); !errors.Is(err, ErrPower) {
		t.Error(err)
	}
	f.Crash()
	l, err := f.Lock("/lock")
	must(t, err)
	if _, err := f.Lock("/lock"); !errors.Is(err, fsys.ErrLocked) {
		t.Error(err)
	}
	must(t, l.Close())
	_, err = f.Lock("/lock")
	must(t, err)
}
