package seglog

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// handled is a log of five segments, of which the first was trimmed, with an ID and
// what is known of it; entries are "one" to "ten" padded to fill a segment by twos.
type handled struct {
	o     Options
	names []string // of the segments, oldest first
	want  map[uint64]string
}

var numbers = []string{"one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"}

func newHandled(t *testing.T, id ID) *handled {
	t.Helper()
	h := &handled{want: map[uint64]string{}}
	h.o = Options{FS: fsys.OS, Dir: t.TempDir() + "/log", Kind: "test", SegmentBytes: 2 * dataOffset, ID: id, Preallocate: PreallocateNone}
	h.o.Changed = func(k Known, _ []Damage) error { h.o.Known = k; return nil }
	l, _ := mustOpen(t, h.o)
	for i, n := range numbers {
		text := n + strings.Repeat(".", 1500)
		if _, err := l.Append([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
		h.want[uint64(i+1)] = text
	}
	if err := errors.Join(l.TruncateFront(3), l.Close()); err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(h.want, func(i uint64, _ string) bool { return i < 3 })
	files, err := filepath.Glob(h.o.Dir + "/*.seg")
	if err != nil || len(files) != 4 || h.o.Known.First != 3 || h.o.Known.Last != 10 {
		t.Fatal(files, err, h.o.Known)
	}
	for _, f := range files {
		h.names = append(h.names, filepath.Base(f))
	}
	return h
}

func (h *handled) path(i int) string { return filepath.Join(h.o.Dir, h.names[i]) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(to, b, 0o600))
}

// What hands do to a log's folder, what Inspect and Open say of it, what a reader
// still finds, and what is set aside. Each Open is followed by one that is clean.
func TestHands(t *testing.T) {
	t.Parallel()
	other := ID{9, 9}
	for _, c := range []struct {
		name  string
		do    func(t *testing.T, h *handled)
		want  error
		lost  []uint64
		aside string
	}{
		{"nothing", func(*testing.T, *handled) {}, nil, nil, ""},
		{"two segments swapped", func(t *testing.T, h *handled) {
			must(t, os.Rename(h.path(1), h.path(1)+"x"))
			must(t, os.Rename(h.path(2), h.path(1)))
			must(t, os.Rename(h.path(1)+"x", h.path(2)))
		}, ErrSwapped, nil, ""},
		{"the newest one renamed", func(t *testing.T, h *handled) {
			must(t, os.Rename(h.path(3), filepath.Join(h.o.Dir, segmentName(90, 90))))
		}, ErrSwapped, nil, ""},
		{"a segment doubled under a new name", func(t *testing.T, h *handled) {
			copyFile(t, h.path(1), filepath.Join(h.o.Dir, segmentName(90, 90)))
		}, ErrDoubled, nil, "doubled"},
		{"a segment copied over another", func(t *testing.T, h *handled) {
			copyFile(t, h.path(1), h.path(2))
		}, ErrDoubled, []uint64{7, 8}, "doubled"},
		{"a segment copied over the newest", func(t *testing.T, h *handled) {
			copyFile(t, h.path(1), h.path(3))
		}, ErrMissing, []uint64{9, 10}, "doubled"},
		{"cut within a frame", func(t *testing.T, h *handled) {
			must(t, os.Truncate(h.path(1), dataOffset+2*1500))
		}, ErrCut, []uint64{6}, ""},
		{"cut between frames", func(t *testing.T, h *handled) {
			must(t, os.Truncate(h.path(1), dataOffset+frameHead+int64(len(h.want[5]))))
		}, ErrCut, []uint64{6}, ""},
		{"the newest cut between frames", func(t *testing.T, h *handled) {
			must(t, os.Truncate(h.path(3), dataOffset+frameHead+int64(len(h.want[9]))))
		}, ErrCut, []uint64{10}, ""},
		{"the newest cut within a frame", func(t *testing.T, h *handled) {
			must(t, os.Truncate(h.path(3), dataOffset+2*1500))
		}, ErrCut, []uint64{10}, ""},
		{"the newest deleted", func(t *testing.T, h *handled) {
			must(t, os.Remove(h.path(3)))
		}, ErrMissing, []uint64{9, 10}, ""},
		{"one in the middle deleted", func(t *testing.T, h *handled) {
			must(t, os.Remove(h.path(1)))
		}, ErrMissing, []uint64{5, 6}, ""},
		{"the oldest deleted", func(t *testing.T, h *handled) {
			must(t, os.Remove(h.path(0)))
		}, ErrMissing, []uint64{3, 4}, ""},
		{"all deleted", func(t *testing.T, h *handled) {
			for i := range h.names {
				must(t, os.Remove(h.path(i)))
			}
		}, ErrMissing, []uint64{3, 4, 5, 6, 7, 8, 9, 10}, ""},
		{"one of another log put in", func(t *testing.T, h *handled) {
			o := newHandled(t, other)
			copyFile(t, o.path(2), filepath.Join(h.o.Dir, segmentName(90, 90)))
		}, ErrForeign, nil, "foreign"},
		{"one of another log put over one of ours", func(t *testing.T, h *handled) {
			o := newHandled(t, other)
			copyFile(t, o.path(2), h.path(2))
		}, ErrForeign, []uint64{7, 8}, "foreign"},
		{"one without an ID put over one of ours", func(t *testing.T, h *handled) {
			o := newHandled(t, ID{})
			copyFile(t, o.path(2), h.path(2))
		}, ErrForeign, []uint64{7, 8}, "foreign"},
		{"another program's file", func(t *testing.T, h *handled) {
			must(t, os.WriteFile(h.path(2), []byte("SQLite format 3"+strings.Repeat("x", 9000)), 0o600))
		}, ErrForeign, []uint64{7, 8}, "foreign"},
		{"a deleted one comes back", func(t *testing.T, h *handled) {
			o := newHandled(t, h.o.ID) // as a backup of the same log has it
			l, _ := mustOpen(t, Options{FS: fsys.OS, Dir: t.TempDir(), Kind: "test", ID: h.o.ID})
			_, err := l.Append([]byte("one"))
			must(t, errors.Join(err, l.Close()))
			_ = o
			copyFile(t, filepath.Join(l.opt.Dir, segmentName(1, 1)), filepath.Join(h.o.Dir, segmentName(1, 1)))
		}, ErrStale, nil, "stale"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHandled(t, ID{1})
			c.do(t, h)
			rec, err := Inspect(h.o, nil, nil)
			must(t, err)
			h.said(t, "Inspect", rec, c.want)
			view, err := OpenReadOnly(h.o)
			must(t, err)
			h.found(t, view.Reader, c.lost)
			l, rec, err := Open(h.o)
			must(t, err)
			h.said(t, "Open", rec, c.want)
			h.found(t, l.Reader, c.lost)
			// Indexes are never used twice, whatever is lost.
			if i, err := l.Append([]byte("more")); err != nil || i != 11 {
				t.Errorf("the next entry is %d, %v", i, err)
			}
			must(t, l.Close())
			got, err := filepath.Glob(h.o.Dir + "/*.corrupt-*[a-z]")
			if err != nil || len(got) > 0 != (c.aside != "") || c.aside != "" && !strings.HasSuffix(got[0], ".corrupt-"+c.aside) {
				t.Errorf("set aside: %v, %v", got, err)
			}
			l, rec, err = Open(h.o)
			must(t, err)
			if !rec.Clean() {
				t.Errorf("the Open after: %v", rec)
			}
			must(t, l.Close())
		})
	}
}

func (h *handled) said(t *testing.T, who string, rec *Recovery, want error) {
	t.Helper()
	if want == nil && !rec.Clean() || want != nil && !slices.ContainsFunc(rec.Damaged, func(d Damage) bool { return errors.Is(d.Err, want) && d.File != "" }) {
		t.Errorf("%s says %+v, want %v", who, rec.Damaged, want)
	}
}

func (h *handled) found(t *testing.T, reader func(uint64) (*Reader, error), lost []uint64) {
	t.Helper()
	r, err := reader(0)
	must(t, err)
	defer r.Close()
	got := map[uint64]string{}
	for {
		i, p, err := r.Next()
		var damaged *CorruptError
		if errors.As(err, &damaged) {
			continue
		}
		if err != nil {
			break
		}
		got[i] = string(p)
	}
	for i, text := range h.want {
		if _, ok := got[i]; ok == slices.Contains(lost, i) || ok && got[i] != text {
			t.Errorf("entry %d: %.10q, lost are %v", i, got[i], lost)
		}
	}
}
