package seglog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
)

// stamped is a payload that tells its own index.
func stamped(index uint64, n int) []byte {
	b := bytes.Repeat([]byte{byte(index)}, 8+n)
	binary.LittleEndian.PutUint64(b, index)
	return b
}

// follow reads from the first entry on until it has seen last, and reports
// anything out of order. A *CorruptError is one, too.
func follow(r *Reader, last uint64) error {
	defer r.Close()
	deadline := time.Now().Add(60 * time.Second)
	for next := uint64(1); next <= last; {
		i, p, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			if time.Now().After(deadline) {
				return errors.New("timed out")
			}
			time.Sleep(100 * time.Microsecond)
			continue
		case err != nil:
			return err
		case i != next || binary.LittleEndian.Uint64(p) != i || p[len(p)-1] != byte(i) && len(p) > 8:
			return errors.New("wrong entry")
		}
		next++
	}
	return nil
}

// Appends, syncs by several callers, readers and a view of the folder
// at the same time, over many rotations.
func TestConcurrent(t *testing.T) {
	o := osOptions(t.TempDir())
	o.MaxUnsynced = 32 << 10
	l, _ := mustOpen(t, o)
	const last = 20000
	var readers, syncers sync.WaitGroup
	errs := make(chan error, 10)
	start := func(r *Reader, err error) {
		if err != nil {
			t.Fatal(err)
		}
		readers.Go(func() { errs <- follow(r, last) })
	}
	r, err := l.Reader(0)
	start(r, err)
	v, err := OpenReadOnly(o)
	if err != nil {
		t.Fatal(err)
	}
	r, err = v.Reader(1)
	start(r, err)
	var stop atomic.Bool
	for range 3 {
		syncers.Go(func() {
			for !stop.Load() {
				before := l.Last()
				if err := l.Sync(); err != nil {
					errs <- err
					return
				}
				if l.Synced() < before {
					errs <- errors.New("Sync returned early")
					return
				}
			}
		})
	}
	for next := uint64(1); next <= last; {
		var batch [][]byte
		for i := uint64(0); i <= next%7 && next+i <= last; i++ {
			batch = append(batch, stamped(next+i, int(next%200)))
		}
		first, err := l.Append(batch...)
		if err != nil || first != next {
			t.Fatal(first, err)
		}
		next += uint64(len(batch))
	}
	stop.Store(true)
	syncers.Wait()
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	readers.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
}

// Truncation under a reader: it either goes on or says ErrTruncated.
func TestTruncateUnderReader(t *testing.T) {
	o := osOptions(t.TempDir())
	l, _ := mustOpen(t, o)
	grow := func(n int) {
		for range n {
			if _, err := l.Append(stamped(l.Last()+1, 1000)); err != nil {
				t.Fatal(err)
			}
		}
	}
	grow(500)
	v, err := OpenReadOnly(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, open := range []func(uint64) (*Reader, error){l.Reader, v.Reader} {
		first := l.First()
		r, err := open(0)
		if err != nil {
			t.Fatal(err)
		}
		if i, _, err := r.Next(); err != nil || i != first {
			t.Fatal(i, err)
		}
		grow(300)
		if err := l.TruncateFront(l.Last() - 10); err != nil {
			t.Fatal(err)
		}
		if l.First() <= first+100 {
			t.Fatalf("first entry %d after truncation", l.First())
		}
		for i := first + 1; ; i++ {
			got, _, err := r.Next()
			if errors.Is(err, ErrTruncated) {
				break
			}
			if err != nil || got != i {
				t.Fatalf("entry %d, want %d: %v", got, i, err)
			}
		}
		r.Close()
	}
	if files, _ := filepath.Glob(o.Dir + "/*.seg"); len(files) > 2 {
		t.Errorf("%d segments left", len(files))
	}
}

// An index is never used twice, also when nothing is left but the newest segment.
func TestIndexesAreNotReused(t *testing.T) {
	t.Parallel()
	o := osOptions(t.TempDir())
	for want := uint64(1); want < 30; want++ {
		l, _ := mustOpen(t, o)
		first, err := l.Append(make([]byte, 40<<10))
		if err != nil || first != want {
			t.Fatalf("appended at %d, want %d: %v", first, want, err)
		}
		if err := l.TruncateFront(l.Last() + 1); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestUseAfterClose(t *testing.T) {
	l, _ := mustOpen(t, osOptions(t.TempDir()))
	r, err := l.Reader(0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := l.Reader(5); !errors.Is(err, ErrBeyond) {
		t.Error(err)
	}
	if _, err := l.Append(make([]byte, MaxEntry+1)); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, err1 := l.Append([]byte("x"))
	_, err2 := l.Reader(0)
	_, _, err3 := r.Next()
	for _, err := range []error{err1, err2, err3, l.Sync(), l.TruncateFront(3)} {
		if !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	}
}

// A second process is told who holds the folder. The test runs itself as one.
func TestLockNamesHolder(t *testing.T) {
	if dir := os.Getenv("SEGLOG_LOCK_DIR"); dir != "" {
		_, _, err := Open(osOptions(dir))
		_, _ = os.Stdout.WriteString("said: " + err.Error() + "\n")
		return
	}
	dir := t.TempDir()
	mustOpen(t, osOptions(dir))
	cmd := exec.Command(os.Args[0], "-test.run=^TestLockNamesHolder$")
	cmd.Env = append(os.Environ(), "SEGLOG_LOCK_DIR="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{dir, "locked by process", "(seglog.test)", "stop it or use another folder"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is not in %s", want, out)
		}
	}
}

// Killed with SIGKILL in mid-append, ten times: what was confirmed is there.
func TestKilledProcess(t *testing.T) {
	t.Parallel()
	if dir := os.Getenv("SEGLOG_KILL_DIR"); dir != "" {
		l, _, err := Open(osOptions(dir))
		if err != nil {
			t.Fatal(err)
		}
		for {
			next := l.Last() + 1
			if _, err := l.Append(stamped(next, 500), stamped(next+1, 50)); err != nil {
				t.Fatal(err)
			}
			if err := l.Sync(); err != nil {
				t.Fatal(err)
			}
			var b [8]byte
			binary.LittleEndian.PutUint64(b[:], l.Synced())
			if _, err := os.Stdout.Write(b[:]); err != nil {
				t.Fatal(err)
			}
		}
	}
	dir := t.TempDir()
	confirmed := uint64(0)
	for round := range need.Rounds(10, 3) {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledProcess$")
		cmd.Env = append(os.Environ(), "SEGLOG_KILL_DIR="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var b [8]byte
		for i := 0; i < 20+17*round; i++ {
			if _, err := io.ReadFull(out, b[:]); err != nil {
				t.Fatal(err)
			}
			confirmed = binary.LittleEndian.Uint64(b[:])
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for {
			if _, err := io.ReadFull(out, b[:]); err != nil {
				break
			}
			confirmed = binary.LittleEndian.Uint64(b[:])
		}
		_ = cmd.Wait()
		l, rec, err := Open(osOptions(dir))
		if err != nil {
			t.Fatal(err)
		}
		if rec.Last < confirmed || len(rec.Damaged) > 0 {
			t.Fatalf("round %d: %d confirmed: %v", round, confirmed, rec)
		}
		r, err := l.Reader(0)
		if err != nil {
			t.Fatal(err)
		}
		if err := follow(r, rec.Last); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAppendAndNextDoNotAllocate(t *testing.T) {
	o := osOptions(t.TempDir())
	o.SegmentBytes = 64 << 20
	l, _ := mustOpen(t, o)
	batch := make([][]byte, 64)
	for i := range batch {
		batch[i] = stamped(uint64(i), 200)
	}
	work := func() {
		if _, err := l.Append(batch...); err != nil {
			t.Fatal(err)
		}
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	work()
	// One for the points of a segment now and then.
	if n := testing.AllocsPerRun(50, work); n > 4 {
		t.Errorf("Append of 64 and Sync: %v allocations", n)
	}
	r, err := l.Reader(0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if n := testing.AllocsPerRun(1000, func() {
		if _, _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}); n > 0.1 {
		t.Errorf("Next: %v allocations", n)
	}
}
