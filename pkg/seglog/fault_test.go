package seglog

import (
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/fsys/faultfs"
)

// workload is a fixed life of a log: appends, syncs, rotations, truncation, a
// clean restart. It goes on after errors as a daemon would, opening again when
// the log has failed.
func workload(m *model, rng *rand.Rand) {
	for i := range 40 {
		if m.log == nil && !m.open() {
			continue
		}
		switch i % 20 {
		case 13:
			m.cut = max(m.cut, m.log.Last())
			_ = m.log.TruncateFront(m.cut)
		case 18:
			_ = m.log.Close()
			m.synced = max(m.synced, m.log.Synced())
			m.log = nil
			continue
		default:
			_ = m.append(rng)
		}
		if i%3 == 0 {
			_ = m.sync()
		}
		if m.log.Err() != nil {
			_ = m.log.Close()
			m.log = nil
		}
	}
}

// Each operation of the workload fails once, in each way; then the power goes.
func TestEveryOperationFails(t *testing.T) {
	t.Parallel()
	for _, op := range faultfs.Ops() {
		for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
			failed := 0
			for n := 1; ; n++ {
				m := newModel(int64(n), func(format string, args ...any) {
					t.Fatalf("%s number %d fails with %v: %s", op, n, cause, fmt.Sprintf(format, args...))
				})
				m.fs.Fail(op, n, cause)
				rng := rand.New(rand.NewSource(7))
				workload(m, rng)
				if m.fs.Count(op) < n {
					break
				}
				failed++
				m.finish(n%2 == 0)
			}
			if failed == 0 {
				t.Errorf("%s: never done", op)
			}
		}
	}
}

// finish opens the log on a healthy disk after a crash, or a kill, appends and
// compares.
func (m *model) finish(crash bool) {
	m.fs.Heal()
	if crash {
		m.fs.Crash()
	} else {
		m.fs.Kill()
	}
	if !m.open() {
		_, _, err := Open(m.opt)
		m.fail("cannot be opened afterwards: %v", err)
	}
	rng := rand.New(rand.NewSource(1))
	if err := errors.Join(m.append(rng), m.sync()); err != nil {
		m.fail("not usable afterwards: %v", err)
	}
	m.fs.Crash()
	if !m.open() {
		m.fail("cannot be opened at last")
	}
}

// The power goes at each changing operation of the workload, with several
// outcomes each.
func TestPowerCutAtEveryOperation(t *testing.T) {
	rounds := need.Rounds(3, 1)
	for n := 1; ; n++ {
		for round := range rounds {
			m := newModel(int64(n*100+round), func(format string, args ...any) {
				t.Fatalf("power cut at operation %d, round %d: %s", n, round, fmt.Sprintf(format, args...))
			})
			m.fs.CutPower(n)
			workload(m, rand.New(rand.NewSource(7)))
			if m.fs.Changes() < n {
				return
			}
			m.finish(true)
		}
	}
}

// The process dies at each changing operation, and the power goes a little later:
// the next process may not take for durable what the last one has only written.
func TestDeathAtEveryOperation(t *testing.T) {
	for n := 1; ; n++ {
		for seed := range int64(4) {
			m := newModel(int64(n)*10+seed, func(format string, args ...any) {
				t.Fatalf("death at operation %d, seed %d: %s", n, seed, fmt.Sprintf(format, args...))
			})
			m.fs.CutPower(n)
			workload(m, rand.New(rand.NewSource(7)))
			if m.fs.Changes() < n {
				return
			}
			m.finish(false)
		}
	}
}

// A write that fails in part and cannot be cut off is not left for a later
// process to find, once something was appended after it.
func TestPartialWriteThatStays(t *testing.T) {
	t.Parallel()
	switched := 0
	for seed := range int64(40) {
		m := newModel(seed, t.Fatalf)
		m.opt.SegmentBytes = 1 << 20
		m.open()
		same := [][]byte{[]byte("one"), []byte("two"), []byte("six")}
		m.fs.Fail(faultfs.Write, 1, syscall.ENOSPC)
		m.fs.Fail(faultfs.Truncate, 1, syscall.EIO)
		if _, err := m.log.Append(same...); !errors.Is(err, ErrNoSpace) {
			t.Fatal(err)
		}
		m.fs.Heal()
		if _, err := m.log.Append(same[0]); err != nil {
			t.Fatal(err)
		}
		if err := m.log.Sync(); err != nil {
			t.Fatal(err)
		}
		if m.log.active.gen > 1 {
			switched++
		}
		m.fs.Kill()
		l, rec, err := Open(m.opt)
		if err != nil || rec.Last != 1 || !rec.Clean() {
			t.Fatalf("seed %d: %v, %v", seed, rec, err)
		}
		l.Close()
	}
	if switched != 40 {
		t.Errorf("the segment was given up %d times of 40", switched)
	}
}

func TestSyncFailureMovesToNewSegment(t *testing.T) {
	for seed := range int64(30) {
		m := newModel(seed, t.Fatalf)
		m.opt.SegmentBytes = 1 << 20
		m.open()
		rng := rand.New(rand.NewSource(seed))
		for range 5 {
			if err := errors.Join(m.append(rng), m.sync()); err != nil {
				t.Fatal(err)
			}
		}
		before := m.log.Synced()
		if err := errors.Join(m.append(rng), m.append(rng)); err != nil {
			t.Fatal(err)
		}
		r, err := m.log.Reader(before + 1)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := r.Next(); err != nil { // stands in the segment to be given up
			t.Fatal(err)
		}
		m.fs.Fail(faultfs.Sync, 1, syscall.EIO)
		if err := m.sync(); err != nil {
			t.Fatalf("one failed sync was not overcome: %v", err)
		}
		next := before + 2
		for {
			i, _, err := r.Next()
			if err != nil {
				break
			}
			if i != next {
				t.Fatalf("reader goes on at %d, want %d", i, next)
			}
			next++
		}
		if next != m.log.Last()+1 {
			t.Fatalf("reader came to %d of %d", next-1, m.log.Last())
		}
		r.Close()
		m.check()
		m.fs.Crash()
		if !m.open() {
			t.Fatal("not opened")
		}
	}
}

func TestSecondSyncFailureIsFinal(t *testing.T) {
	m := newModel(1, t.Fatalf)
	m.open()
	rng := rand.New(rand.NewSource(1))
	if err := errors.Join(m.append(rng), m.sync(), m.append(rng)); err != nil {
		t.Fatal(err)
	}
	m.fs.FailRange(faultfs.Sync, 1, 10, syscall.EIO)
	if err := m.sync(); !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) {
		t.Fatalf("sync: %v", err)
	}
	if _, err := m.log.Append([]byte("x")); !errors.Is(err, ErrFailed) {
		t.Fatalf("append on a failed log: %v", err)
	}
	if m.log.Err() == nil {
		t.Fatal("Err says nothing")
	}
	if err := m.log.Close(); err != nil {
		t.Fatal(err)
	}
	if m.fs.OpenFiles() != 0 {
		t.Fatalf("%d files open after Close", m.fs.OpenFiles())
	}
	m.finish(true)
}

// A read of a page that never reached the disk looks well until the power goes:
// Open after a failed sync has to write such entries again.
func TestReopenAfterFailedSync(t *testing.T) {
	for seed := range int64(40) {
		m := newModel(seed, t.Fatalf)
		m.open()
		rng := rand.New(rand.NewSource(seed))
		if err := errors.Join(m.append(rng), m.sync(), m.append(rng), m.append(rng)); err != nil {
			t.Fatal(err)
		}
		m.fs.FailRange(faultfs.Sync, 1, 10, syscall.EIO)
		if err := m.sync(); err == nil {
			t.Fatal("sync went well")
		}
		m.fs.Kill()
		if !m.open() {
			t.Fatal("not opened")
		}
		m.fs.Crash()
		if !m.open() {
			t.Fatal("not opened")
		}
	}
}

func TestNoSpaceThenSpace(t *testing.T) {
	for _, pre := range []Preallocate{PreallocateSpace, PreallocateNone} {
		m := newModel(3, t.Fatalf)
		m.opt.Preallocate = pre
		m.open()
		rng := rand.New(rand.NewSource(3))
		m.fs.SetSpace(2000)
		full := 0
		for range 300 {
			last, size := m.log.Last(), m.log.Size()
			err := m.append(rng)
			if errors.Is(err, ErrNoSpace) {
				full++
				if m.log.Last() != last || m.log.Size() != size {
					t.Fatalf("a refused append changed the log: %d → %d", last, m.log.Last())
				}
				if full == 3 {
					m.fs.SetSpace(20000)
				}
			} else if err != nil {
				t.Fatal(err)
			}
			if err := m.sync(); err != nil {
				t.Fatalf("sync on a full disk: %v", err)
			}
			m.check()
		}
		if full < 4 {
			t.Errorf("the disk was full %d times", full)
		}
		m.finish(true)
	}
}

// The same on a real filesystem that is full.
func TestNoSpaceOnTmpfs(t *testing.T) {
	dir := t.TempDir()
	need.Tmpfs(t, dir, "size=256k,mode=0700")
	o := Options{FS: fsys.OS, Dir: filepath.Join(dir, "log"), Kind: "test", SegmentBytes: 64 << 10}
	l, _, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 100<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	entry := make([]byte, 1000)
	refused, wrote := 0, 0
	for i := range 400 {
		_, err := l.Append(entry)
		switch {
		case errors.Is(err, ErrNoSpace):
			if refused++; refused == 5 {
				if err := os.Remove(ballast); err != nil {
					t.Fatal(err)
				}
			}
		case err != nil:
			t.Fatal(err)
		default:
			wrote++
		}
		if err := l.Sync(); err != nil {
			t.Fatalf("after %d appends: %v", i, err)
		}
		if refused > 20 {
			break
		}
	}
	if refused < 6 || wrote < 150 {
		t.Errorf("%d refused, %d written", refused, wrote)
	}
	r, err := l.Reader(0)
	if err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, r); len(got) != wrote {
		t.Errorf("%d entries, want %d", len(got), wrote)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, rec, err := Open(o)
	if err != nil || !rec.Clean() || rec.Last != uint64(wrote) {
		t.Fatalf("reopened on a full disk: %v %v", rec, err)
	}
	l.Close()
}
