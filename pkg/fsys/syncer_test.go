package fsys

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/internal/need"
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

// TestSyncerSignals: a signal that comes while the kernel is asked ends no sync, and the end of one that was given up is not
// that of the next, which would be taken for durable before it is.
func TestSyncerSignals(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r, err := openSyncRing()
	if err != nil {
		need.Missing(t, "this kernel does not sync aside: "+err.Error())
	}
	defer func() {
		if err := r.close(); err != nil {
			t.Error(err)
		}
	}()
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "file"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := r.sync(f); errors.Is(err, errNotAside) {
		need.Missing(t, "this kernel does not sync aside")
	}
	r.call.data, r.call.descriptor = 1000, uint32(f.Fd()) //nolint:gosec // a descriptor
	calls := [1]*iocb{&r.call}
	if _, _, errno := unix.Syscall(unix.SYS_IO_SUBMIT, r.context, 1, uintptr(unsafe.Pointer(&calls))); errno != 0 {
		t.Fatal(errno) // nobody asks for the end of this one
	}
	pid, thread := os.Getpid(), unix.Gettid()
	var over atomic.Bool
	var sender sync.WaitGroup
	sender.Go(func() {
		for !over.Load() {
			_ = unix.Tgkill(pid, thread, unix.SIGURG) // the runtime's own, and it sends more than it has to
		}
	})
	defer sender.Wait()
	defer over.Store(true)
	for i := range 1000 {
		if err := r.sync(f); err != nil || r.done.data != r.call.data {
			t.Fatalf("sync %d: %v; the end of %d is taken for that of %d", i, err, r.done.data, r.call.data)
		}
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
