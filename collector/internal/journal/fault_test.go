package journal

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/fsys/faultfs"
)

// load is a sender in a stop-and-wait loop over a disk that fails. Records are
// numbered; acked are those done(nil) was called for.
type load struct {
	next  uint32
	conn  uint64
	acked map[string]bool
}

// step sends the next record until it is acknowledged, at most tries times, over
// a new connection after each error.
func (l *load) step(t *testing.T, j *Journal, tries int) bool {
	for range tries {
		l.conn++
		name := fmt.Sprint("record ", l.next)
		b := &Batch{Conn: l.conn, Sender: from(addr(1)), Managed: true, Received: time.Unix(1, 0), Records: []Record{own(l.next, name)}}
		if put(t, j, b) == nil {
			l.acked[name] = true
			l.next++
			return true
		}
	}
	return false
}

// check reopens and compares with what was acknowledged.
func (l *load) check(t *testing.T, fs *faultfs.FS, why string) {
	t.Helper()
	o := Options{FS: fs, Dir: "/j", SegmentBytes: 8192}
	j, _, err := Open(o)
	if err != nil {
		t.Fatalf("%s: open again: %v", why, err)
	}
	defer j.Close()
	count := map[string]int{}
	lsns := map[uint64]bool{}
	err = j.Start(Resume{}, func(b *Batch) error {
		for i, r := range b.Records {
			count[string(r.Raw)]++
			if lsn := b.First + uint64(i); lsns[lsn] {
				t.Errorf("%s: LSN %d twice", why, lsn)
			} else {
				lsns[lsn] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%s: replay: %v", why, err)
	}
	for name := range l.acked {
		if count[name] != 1 {
			t.Errorf("%s: %s was acknowledged and is there %d times", why, name, count[name])
		}
	}
	for name, n := range count {
		if n != 1 {
			t.Errorf("%s: %s is there %d times", why, name, n)
		}
	}
	// What was in flight comes again; then all goes on.
	for range 3 {
		if !l.step(t, j, 1) {
			t.Fatalf("%s: the journal does not take records after the reopen", why)
		}
	}
}

// TestEveryOperationFails makes each operation of each kind fail once, also a
// sync together with what follows it, and goes on when it can.
func TestEveryOperationFails(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	for _, op := range []faultfs.Op{faultfs.Write, faultfs.Sync, faultfs.Rename, faultfs.Allocate, faultfs.Create, faultfs.SyncDir, faultfs.Truncate} {
		for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
			for run := 1; run <= 3; run += 2 { // one failure; three in a row
				for n := 1; ; n += need.Size(1, 3) {
					why := fmt.Sprintf("%s %d to %d: %v", op, n, n+run-1, cause)
					fs := faultfs.New(int64(n))
					j, _, err := Open(Options{FS: fs, Dir: "/j", SegmentBytes: 8192, Now: func() time.Time { now = now.Add(time.Minute); return now }})
					if err != nil {
						t.Fatal(err)
					}
					if err := j.Start(Resume{}, func(*Batch) error { return nil }); err != nil {
						t.Fatal(err)
					}
					before := fs.Count(op)
					fs.FailRange(op, n, n+run-1, cause)
					l := &load{next: 1, acked: map[string]bool{}}
					for range 250 {
						if !l.step(t, j, 20) {
							t.Fatalf("%s: the journal does not recover", why)
						}
					}
					reached := fs.Count(op)-before >= n
					fs.Kill()
					_ = j.Close() // its handles are gone
					fs.Heal()
					l.check(t, fs, why)
					if !reached || t.Failed() {
						break
					}
					if n > 20 && op != faultfs.Create && op != faultfs.Rename {
						n += 16
					}
				}
			}
		}
	}
}

// TestPowerCut cuts the power at every changing operation.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	for n := 1; ; n += 3 {
		fs := faultfs.New(int64(n))
		j, _, err := Open(Options{FS: fs, Dir: "/j", SegmentBytes: 8192})
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Start(Resume{}, func(*Batch) error { return nil }); err != nil {
			t.Fatal(err)
		}
		fs.CutPower(n)
		l := &load{next: 1, acked: map[string]bool{}}
		ok := true
		for range 120 {
			if ok = l.step(t, j, 1); !ok {
				break
			}
		}
		fs.Crash()
		_ = j.Close() // the machine is gone
		l.check(t, fs, fmt.Sprintf("power cut at change %d, seed %d", n, n))
		if ok || t.Failed() {
			return
		}
	}
}

// TestFullDisk runs out of space and gets it back.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	fs := faultfs.New(1)
	j, _, err := Open(Options{FS: fs, Dir: "/j", SegmentBytes: 8192})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if err := j.Start(Resume{}, func(*Batch) error { return nil }); err != nil {
		t.Fatal(err)
	}
	l := &load{next: 1, acked: map[string]bool{}}
	fs.SetSpace(20_000)
	for l.step(t, j, 1) {
	}
	err = put(t, j, batch(1, string(make([]byte, 3000))))
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a full disk: %v, want ENOSPC in it", err)
	}
	if !j.Stats().Failing {
		t.Error("Stats do not say that commits fail")
	}
	fs.Heal()
	for range 10 {
		if !l.step(t, j, 1) {
			t.Fatal("space is back, records are still refused")
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	l.check(t, fs, "full disk")
}
