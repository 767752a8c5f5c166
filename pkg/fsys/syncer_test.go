package fsys

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSyncer: the kernel syncs aside what it can, and whatever it can't is synced in the usual way or fails as that does.
func TestSyncer(t *testing.T) {
	open := func(name string) File {
		f, err := OS.OpenFile(filepath.Join(t.TempDir(), name), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	var s Syncer
	one, two := open("one"), open("two")
	defer two.Close()
	for i := range 3 {
		for _, f := range []File{one, two} {
			if _, err := f.WriteAt([]byte("record"), int64(6*i)); err != nil {
				t.Fatal(err)
			}
			if err := s.Datasync(f); err != nil {
				t.Fatalf("sync %d of %s: %v", i, f.Name(), err)
			}
		}
	}
	if s.never {
		t.Log("this kernel does not sync aside")
	} else if r := &s.ring.done; r.result != 0 || r.object == 0 {
		t.Errorf("the kernel says %+v", *r)
	}
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Datasync(one); err == nil {
		t.Errorf("a closed file is synced")
	}
	if err := s.Datasync(two); err != nil {
		t.Errorf("after a failure: %v", err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if err := s.Datasync(osFile{null}); !errors.Is(err, unix.EINVAL) {
		t.Errorf("what can't be synced: %v", err)
	}
	if err := s.Datasync(two); err != nil {
		t.Errorf("in the usual way: %v", err)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
}

// TestSyncerOfOthers: a file that is not the operating system's is synced by itself.
func TestSyncerOfOthers(t *testing.T) {
	f := &failing{}
	var s Syncer
	if err := s.Datasync(f); !errors.Is(err, unix.EIO) || s.ring != nil {
		t.Error(err, s.ring)
	}
}

type failing struct{ File }

func (f *failing) Datasync() error { return unix.EIO }

// TestSyncerChooses: syncs go aside unless that takes much longer, and each way is tried again.
func TestSyncerChooses(t *testing.T) {
	for _, tt := range []struct {
		what           string
		usual, aside   time.Duration
		asides, atMost int // of 320
	}{
		{"a quiet machine", 400 * time.Microsecond, 450 * time.Microsecond, 309, 311},
		{"a slow disk", 9 * time.Millisecond, 9100 * time.Microsecond, 309, 311},
		{"a crowded machine", 2 * time.Millisecond, 5 * time.Millisecond, 9, 12},
	} {
		var s Syncer
		run := func(n int) (asides int) {
			for range n {
				if s.isAside() {
					asides++
					s.aside.add(tt.aside)
				} else {
					s.usual.add(tt.usual)
				}
			}
			return asides
		}
		if n := run(320); n < tt.asides || n > tt.atMost {
			t.Errorf("%s: %d of 320 aside, want %d to %d", tt.what, n, tt.asides, tt.atMost)
		}
		s.aside.add(time.Minute) // once
		tt.usual, tt.aside = 400*time.Microsecond, 450*time.Microsecond
		run(32 * 64)
		if n := run(320); n < 309 {
			t.Errorf("%s: %d of 320 aside once it is quiet", tt.what, n)
		}
	}
}
