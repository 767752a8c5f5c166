package seglog

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

func osOptions(dir string) Options {
	return Options{FS: fsys.OS, Dir: dir, Kind: "test", SegmentBytes: 64 << 10}
}

func mustOpen(t testing.TB, o Options) (*Log, *Recovery) {
	t.Helper()
	l, rec, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, rec
}

// readAll returns index → payload of all a reader has, and fails on disorder.
func readAll(t testing.TB, r *Reader) map[uint64]string {
	t.Helper()
	defer r.Close()
	got := map[uint64]string{}
	prev := uint64(0)
	for {
		i, p, err := r.Next()
		if errors.Is(err, io.EOF) {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		if i <= prev {
			t.Fatalf("entry %d after %d", i, prev)
		}
		prev = i
		got[i] = string(p)
	}
}

func TestAppendReadReopen(t *testing.T) {
	t.Parallel()
	o := osOptions(t.TempDir() + "/log")
	l, rec := mustOpen(t, o)
	if !rec.Clean() || rec.First != 1 || rec.Last != 0 {
		t.Fatalf("new log: %+v", rec)
	}
	want := map[uint64]string{}
	for i := range 2000 {
		a, b := fmt.Sprintf("entry %d", i), fmt.Sprintf("%0*d", i%300, i)
		first, err := l.Append([]byte(a), []byte(b))
		if err != nil {
			t.Fatal(err)
		}
		want[first], want[first+1] = a, b
		if i%7 == 0 {
			if err := l.Sync(); err != nil {
				t.Fatal(err)
			}
		}
	}
	check := func(r *Reader, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		got := readAll(t, r)
		if len(got) != len(want) {
			t.Fatalf("%d entries, want %d", len(got), len(want))
		}
		for i, w := range want {
			if got[i] != w {
				t.Fatalf("entry %d: %q, want %q", i, got[i], w)
			}
		}
	}
	check(l.Reader(0))
	v, err := OpenReadOnly(o)
	if err != nil {
		t.Fatal(err)
	}
	check(v.Reader(1))
	if _, _, err := Open(o); !errors.Is(err, fsys.ErrLocked) {
		t.Fatalf("second Open: %v", err)
	}
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Fatal(err)
	}
	l, rec = mustOpen(t, o)
	if !rec.Clean() || rec.Last != 4000 || rec.Resynced != 0 || rec.Segments < 5 {
		t.Fatalf("reopened: %+v", rec)
	}
	check(l.Reader(1))
	if last, err := v.Last(); err != nil || last != 4000 {
		t.Fatalf("view: last %d, %v", last, err)
	}
	if err := l.TruncateFront(3001); err != nil {
		t.Fatal(err)
	}
	if f := l.First(); f < 2000 || f > 3001 {
		t.Fatalf("first after truncation: %d", f)
	}
	if _, err := l.Reader(5); !errors.Is(err, ErrTruncated) {
		t.Fatalf("reading what is gone: %v", err)
	}
}

// What is not synced takes no more memory than it may have bytes.
func TestUnsyncedMemory(t *testing.T) {
	o := osOptions(t.TempDir())
	o.MaxUnsynced = 1 << 20
	l, _ := mustOpen(t, o)
	defer l.Close()
	for range 100 {
		if _, err := l.Append(make([]byte, 30_000)); err != nil {
			t.Fatal(err)
		}
		if most := o.MaxUnsynced + frameHead; cap(l.pending) > most {
			t.Fatalf("%d bytes of memory for %d that are not synced, %d at most", cap(l.pending), len(l.pending), most)
		}
	}
}
