package seglog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/fsys/faultfs"
)

// buildSmall makes a log of two segments; each entry synced on its own.
func buildSmall(t *testing.T, fs *faultfs.FS, clean bool) (Options, map[uint64]string) {
	t.Helper()
	o := Options{FS: fs, Dir: "/log", Kind: "rot", SegmentBytes: 2*dataOffset + 1, Preallocate: PreallocateNone}
	l, _, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	want := map[uint64]string{}
	add := func(s string) {
		i, err := l.Append([]byte(s))
		if err == nil {
			err = l.Sync()
		}
		if err != nil {
			t.Fatal(err)
		}
		want[i] = s
	}
	for i := range 6 {
		add(fmt.Sprintf("%d:%s", i, strings.Repeat("old", i)))
	}
	add(strings.Repeat("x", 2*dataOffset)) // makes the next one begin a segment
	for i := range 6 {
		add(fmt.Sprintf("%d:%s", i, strings.Repeat("new", i)))
	}
	if clean {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	fs.Kill()
	return o, want
}

// outcome of reading a log with damage.
type outcome struct {
	got  map[uint64]string
	lost [][2]uint64
}

func readDamaged(t *testing.T, r *Reader) outcome {
	t.Helper()
	defer r.Close()
	out := outcome{got: map[uint64]string{}}
	prev := uint64(0)
	for {
		i, p, err := r.Next()
		var damage *CorruptError
		switch {
		case errors.Is(err, io.EOF):
			return out
		case errors.As(err, &damage):
			out.lost = append(out.lost, [2]uint64{damage.First, damage.Last})
		case err != nil:
			t.Fatal(err)
		default:
			if i <= prev {
				t.Fatalf("entry %d after %d", i, prev)
			}
			prev = i
			out.got[i] = string(p)
		}
	}
}

// Every bit pattern a single flip can make, at every byte of a small log: no
// entry but the hit one is lost, none is changed, and what is lost is named.
func TestBitFlips(t *testing.T) {
	t.Parallel()
	step := int64(need.Size(1, 7))
	for _, clean := range []bool{true, false} {
		probe := faultfs.New(1)
		_, want := buildSmall(t, probe, clean)
		names, err := probe.ReadDir("/log")
		if err != nil {
			t.Fatal(err)
		}
		flips := 0
		for _, name := range names {
			if !strings.HasSuffix(name, ".seg") {
				continue
			}
			size, err := probe.Size("/log/" + name)
			if err != nil {
				t.Fatal(err)
			}
			for off := int64(0); off < size; off += step {
				padding := off >= headerSize && off < headerCopyAt || off >= headerCopyAt+headerSize && off < dataOffset
				if padding && off%97 != 0 || off > dataOffset+400 && off < size-200 && off%61 != 0 {
					continue
				}
				flips++
				where := fmt.Sprintf("clean %v, %s at %d", clean, name, off)
				fs := faultfs.New(off)
				o, _ := buildSmall(t, fs, clean)
				fs.Flip("/log/"+name, off, uint(off))
				checkFlip(t, o, want, where, padding)
			}
		}
		if flips < 500/int(step) {
			t.Fatalf("only %d flips", flips)
		}
	}
}

func checkFlip(t *testing.T, o Options, want map[uint64]string, where string, padding bool) {
	t.Helper()
	v, err := OpenReadOnly(o)
	if err != nil {
		t.Fatalf("%s: view: %v", where, err)
	}
	vr, err := v.Reader(0)
	if err != nil {
		t.Fatalf("%s: view: %v", where, err)
	}
	seen := readDamaged(t, vr)
	l, rec, err := Open(o)
	if err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	r, err := l.Reader(0)
	if err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	out := readDamaged(t, r)
	if len(out.lost) > 0 {
		t.Fatalf("%s: damaged after Open: %v", where, out.lost)
	}
	for _, o := range []outcome{seen, out} {
		for i, p := range o.got {
			if p != want[i] {
				t.Fatalf("%s: entry %d is %q", where, i, p)
			}
		}
		if len(o.got) < len(want)-1 {
			t.Fatalf("%s: %d of %d entries left", where, len(o.got), len(want))
		}
	}
	if padding && (!rec.Clean() || len(out.got) != len(want)) {
		t.Fatalf("%s: %v", where, rec)
	}
	for i := range want {
		if _, ok := out.got[i]; ok {
			continue
		}
		named := rec.Torn != nil && i >= rec.Torn.Index
		for _, u := range rec.Unsynced { // the last append: no mark says that it was synced
			named = named || i >= u.First && i <= u.Last
		}
		for _, d := range rec.Damaged {
			named = named || i >= d.First && i <= d.Last
			if d.SetAside == "" {
				t.Fatalf("%s: damage was not set aside: %+v", where, d)
			}
			if size, err := o.FS.Size(filepath.Join(o.Dir, d.SetAside)); err != nil || size != d.Bytes {
				t.Fatalf("%s: %s has %d bytes, want %d, %v", where, d.SetAside, size, d.Bytes, err)
			}
		}
		if !named {
			t.Fatalf("%s: entry %d is gone and not named: %v", where, i, rec)
		}
	}
	first, err := l.Append([]byte("next"))
	if err != nil || rec.Torn == nil && first != uint64(len(want))+1 {
		t.Fatalf("%s: appended at %d, %v", where, first, err)
	}
	if err := l.Close(); err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	// What was repaired once stays so.
	l, again, err := Open(o)
	if err != nil || !again.Clean() {
		t.Fatalf("%s: opened again: %v, %v", where, again, err)
	}
	if rec.Torn == nil && len(out.got) < len(want) && len(again.Gaps) == 0 {
		t.Fatalf("%s: the gap is not on record", where)
	}
	l.Close()
}

// rewrite changes a file's bytes in place.
func rewrite(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

// twoSegments makes a log on disk whose first segment ends at entry 1.
func twoSegments(t *testing.T) (Options, []string) {
	t.Helper()
	o := Options{FS: fsys.OS, Dir: t.TempDir(), Kind: "test", SegmentBytes: 2 * dataOffset}
	l, _ := mustOpen(t, o)
	for _, s := range []string{strings.Repeat("a", 2*dataOffset), "second", "third"} {
		if _, err := l.Append([]byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(o.Dir + "/*.seg")
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	return o, files
}

func TestHeaderErrors(t *testing.T) {
	both := func(at int, b ...byte) func([]byte) []byte {
		return func(file []byte) []byte {
			copy(file[at:], b)
			copy(file[headerCopyAt+at:], b)
			return file
		}
	}
	for _, c := range []struct {
		name   string
		change func([]byte) []byte
		want   error
	}{
		{"newer version", both(8, Version+1), ErrVersion},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, files := twoSegments(t)
			rewrite(t, files[1], c.change)
			before, _ := os.ReadFile(files[1])
			if _, _, err := Open(o); !errors.Is(err, c.want) || !strings.Contains(err.Error(), files[1]) {
				t.Fatalf("Open: %v", err)
			}
			if _, err := OpenReadOnly(o); !errors.Is(err, c.want) {
				t.Fatalf("OpenReadOnly: %v", err)
			}
			if after, _ := os.ReadFile(files[1]); string(after) != string(before) {
				t.Fatal("the file was changed")
			}
		})
	}
	t.Run("another kind", func(t *testing.T) {
		o, _ := twoSegments(t)
		o.Kind = "other"
		if _, _, err := Open(o); !errors.Is(err, ErrKind) || !strings.Contains(err.Error(), `"test"`) {
			t.Fatal(err)
		}
	})
	t.Run("nothing but another program's file", func(t *testing.T) {
		o, files := twoSegments(t)
		if err := os.Remove(files[0]); err != nil {
			t.Fatal(err)
		}
		rewrite(t, files[1], both(0, []byte("SQLite format 3")...))
		if _, _, err := Open(o); !errors.Is(err, ErrMagic) || !strings.Contains(err.Error(), files[1]) {
			t.Fatal(err)
		}
	})
	for at, name := range []string{"oldest", "newest"} {
		t.Run("both headers of the "+name, func(t *testing.T) {
			o, files := twoSegments(t)
			rewrite(t, files[at], both(20, 0xff))
			l, rec := mustOpen(t, o)
			if len(rec.Damaged) == 0 || rec.Damaged[0].SetAside == "" {
				t.Fatalf("%+v", rec)
			}
			d := rec.Damaged[0]
			if b, err := os.ReadFile(filepath.Join(o.Dir, d.SetAside)); err != nil || len(b) == 0 {
				t.Fatal("not set aside:", err)
			}
			first, err := l.Append([]byte("next"))
			if err != nil || first < 4 || d.First != uint64(1+at) || d.Last < d.First {
				t.Fatalf("appended at %d after losing %d to %d: %v", first, d.First, d.Last, err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l, rec = mustOpen(t, o)
			if !rec.Clean() || l.Last() != first {
				t.Fatalf("opened again: %v", rec)
			}
		})
	}
}

// A whole segment, or the end of one, that is missing is named.
func TestMissingSegmentIsNamed(t *testing.T) {
	o := Options{FS: fsys.OS, Dir: t.TempDir(), Kind: "test", SegmentBytes: 2 * dataOffset}
	l, _ := mustOpen(t, o)
	for range 5 {
		if _, err := l.Append(make([]byte, 2*dataOffset)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(o.Dir + "/*.seg")
	if err := os.Remove(files[2]); err != nil {
		t.Fatal(err)
	}
	v, err := OpenReadOnly(o)
	if err != nil {
		t.Fatal(err)
	}
	r, err := v.Reader(0)
	if err != nil {
		t.Fatal(err)
	}
	if out := readDamaged(t, r); len(out.got) != 4 || len(out.lost) != 1 || out.lost[0] != [2]uint64{3, 3} {
		t.Fatalf("view: %d entries, lost %v", len(out.got), out.lost)
	}
	_, rec := mustOpen(t, o)
	if len(rec.Damaged) != 1 || rec.Damaged[0].First != 3 || rec.Damaged[0].Last != 3 || !rec.Damaged[0].Certain {
		t.Fatalf("%+v", rec.Damaged)
	}
	if !strings.Contains(rec.String(), "entries 3 to 3 lost") {
		t.Errorf("%s", rec)
	}
}

// Rot that sets in after Open is met by the reader: named once, and read past.
func TestReaderMeetsRot(t *testing.T) {
	o := Options{FS: fsys.OS, Dir: t.TempDir(), Kind: "test", SegmentBytes: 1 << 20}
	l, _ := mustOpen(t, o)
	for i := range 9 {
		if _, err := l.Append(fmt.Appendf(nil, "entry %d", i+1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(o.Dir + "/*.seg")
	f, err := os.OpenFile(files[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	each := int64(frameHead + len("entry 1"))
	for _, at := range []int64{4, 5, 9} { // entries 4 and 5, and the last
		if _, err := f.WriteAt([]byte{'?'}, dataOffset+at*each-1); err != nil {
			t.Fatal(err)
		}
	}
	r, err := l.Reader(0)
	if err != nil {
		t.Fatal(err)
	}
	out := readDamaged(t, r)
	if len(out.got) != 6 || fmt.Sprint(out.lost) != "[[4 5] [9 9]]" {
		t.Fatalf("%d entries, lost %v", len(out.got), out.lost)
	}
}

// Bytes at the end that look like the heads of frames, each of which would end a little later, are not all copied for
// each head: that took minutes at a start.
func TestManyThatLookLikeFrames(t *testing.T) {
	const size, heads = 128 << 10, 1000
	file := make([]byte, size+2*heads)
	for n := range heads {
		at := size - (heads-n)*frameHead
		binary.LittleEndian.PutUint32(file[at+4:], uint32(size+n-at-frameHead)) // an entry
		binary.LittleEndian.PutUint64(file[at+8:], 7)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, _, ok, err := findFrame(bytes.NewReader(file), 1, 0, size, int64(len(file)), 7)
	runtime.ReadMemStats(&after)
	if ok || err != nil {
		t.Errorf("found %v, %v", ok, err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 10*size {
		t.Errorf("%d bytes were copied for %d", n, size)
	}
}
