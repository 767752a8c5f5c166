package seglog

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/fsys/faultfs"
	"github.com/google/go-cmp/cmp"
)

// fixture is a log of format version 1 as it was written when the format was
// made: one segment with a mark, a gap frame, an empty entry and one that ends
// in zeroes. It must be read for ever; never write it again.
const fixture = "testdata/v1"

var fixtureEntries = map[uint64]string{
	1: "type=SYSCALL msg=audit(1700000000.123:42): arch=c000003e syscall=59",
	2: "",
	5: "ends in zeroes\x00\x00\x00",
	6: "last",
}

func TestFixtureVersion1(t *testing.T) {
	dir := t.TempDir()
	names, err := os.ReadDir(fixture)
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, n := range names {
		b, err := os.ReadFile(filepath.Join(fixture, n.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, n.Name()), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := Options{FS: fsys.OS, Dir: dir, Kind: "fixture"}
	v, err := OpenReadOnly(o)
	if err != nil {
		t.Fatal(err)
	}
	r, err := v.Reader(0)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(fixtureEntries, readAll(t, r)); d != "" {
		t.Fatal(d)
	}
	l, rec := mustOpen(t, o)
	if !rec.Clean() || rec.Last != 6 || rec.Resynced != 0 {
		t.Fatalf("%+v", rec)
	}
	if d := cmp.Diff([]Gap{{File: segmentName(1, 1), Offset: 0x1073, First: 3, Last: 4}}, rec.Gaps); d != "" {
		t.Fatal(d)
	}
	r, err = l.Reader(0)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(fixtureEntries, readAll(t, r)); d != "" {
		t.Fatal(d)
	}
}

// What is written today is the fixture, byte for byte: a change of the format
// needs a new version and a second fixture.
func TestWritesVersion1(t *testing.T) {
	h := header{kind: "fixture", first: 1, gen: 1, seed: 0x12345678}
	b := h.encodePage()
	b = putFrame(b, h.seed, frameEntry, 1, len(fixtureEntries[1]), []byte(fixtureEntries[1]))
	b = putFrame(b, h.seed, frameMark, 1, 0, nil)
	b = putFrame(b, h.seed, frameEntry, 2, 0, nil)
	b = putFrame(b, h.seed, frameGap, 4, 5, nil)
	b = append(b, "junk!"...)
	b = putFrame(b, h.seed, frameEntry, 5, len(fixtureEntries[5]), []byte(fixtureEntries[5]))
	b = putFrame(b, h.seed, frameEntry, 6, len(fixtureEntries[6]), []byte(fixtureEntries[6]))
	b = putFrame(b, h.seed, frameMark, 6, 0, nil)
	want, err := os.ReadFile(filepath.Join(fixture, segmentName(1, 1)))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, want) {
		t.Fatalf("%d bytes differ from the fixture's %d", len(b), len(want))
	}
}

// The example in FORMAT.md is decoded, and is what Append writes.
func TestFormatExample(t *testing.T) {
	doc, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(doc), "```example\n")
	text, _, ok2 := strings.Cut(rest, "```")
	if !ok || !ok2 {
		t.Fatal("FORMAT.md has no example")
	}
	file := make([]byte, dataOffset)
	for line := range strings.Lines(text) {
		var at int64
		if _, err := fmt.Sscanf(line, "%x", &at); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		_, rest, _ := strings.Cut(line, "  ")
		bytesPart, _, _ := strings.Cut(rest, "  ")
		b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(bytesPart), " ", ""))
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if int64(len(file)) < at+int64(len(b)) {
			file = slices.Concat(file, make([]byte, at+int64(len(b))-int64(len(file))))
		}
		copy(file[at:], b)
	}
	dir := t.TempDir()
	name := segmentName(7, 3)
	if err := os.WriteFile(filepath.Join(dir, name), file, 0o600); err != nil {
		t.Fatal(err)
	}
	v, err := OpenReadOnly(Options{FS: fsys.OS, Dir: dir, Kind: "journal"})
	if err != nil {
		t.Fatal(err)
	}
	r, err := v.Reader(7)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[uint64]string{7: "hello", 8: "world!"}, readAll(t, r)); d != "" {
		t.Fatal(d)
	}
	h, bad, err := decodePage(file)
	if err != nil || bad != nil {
		t.Fatal(bad, err)
	}
	if d := cmp.Diff(header{kind: "journal", first: 7, gen: 3, seed: 0xa1b2c3d4}, h, cmp.AllowUnexported(header{})); d != "" {
		t.Fatal(d)
	}
	want := h.encodePage()
	want = putFrame(want, h.seed, frameEntry, 7, 5, []byte("hello"))
	want = putFrame(want, h.seed, frameMark, 7, 0, nil)
	want = putFrame(want, h.seed, frameEntry, 8, 6, []byte("world!"))
	if !bytes.Equal(file, want) {
		t.Fatal("the example is not what is written")
	}
}

func TestNames(t *testing.T) {
	first, gen, ok := parseName(segmentName(12345678901234, 77))
	if !ok || first != 12345678901234 || gen != 77 {
		t.Fatal(first, gen, ok)
	}
	for _, bad := range []string{
		"", ".seg", "1-1.seg", "00000000000000000000-0000000001.seg", "00000000000000000001-0000000000.seg",
		"00000000000000000001-0000000001.seg.tmp", "99999999999999999999-0000000001.seg", "+0000000000000000001-0000000001.seg",
	} {
		if _, _, ok := parseName(bad); ok {
			t.Errorf("%q taken for a segment", bad)
		}
	}
}

// FuzzRecover opens a log whose segment holds arbitrary bytes after a good
// header: no panic, no entry that is not in the bytes, usable, stable.
func FuzzRecover(f *testing.F) {
	h := header{kind: "fuzz", first: 5, gen: 2, seed: 1}
	good := putFrame(nil, 1, frameEntry, 5, 3, []byte("abc"))
	good = putFrame(good, 1, frameMark, 5, 0, nil)
	good = putFrame(good, 1, frameEntry, 6, 0, nil)
	gap := putFrame(putFrame(bytes.Clone(good), 1, frameGap, 9, 4, nil), 1, frameEntry, 10, 1, []byte("x"))
	f.Add(good, false)
	f.Add(gap, true)
	f.Add(append(bytes.Clone(good), make([]byte, 100)...), true)
	f.Add(append(append(bytes.Clone(good), "torn frame of some length"...), putFrame(nil, 1, frameEntry, 7, 1, []byte("y"))...), false)
	f.Add(putFrame(nil, 1, frameGap, maxIndex, 0, nil), false)
	f.Add(putFrame(nil, 1, frameGap, maxJump, 0, nil), false)
	f.Add(putFrame(nil, 1, frameGap, 9, 1<<29, nil), true)
	f.Add(putFrame(nil, 1, frameEntry, 2842958158, 0, nil), true)
	f.Fuzz(func(t *testing.T, body []byte, later bool) {
		// resum makes frames of bytes that only look like them, so that the
		// checksum does not keep the fuzzer from what lies behind it.
		body = bytes.Clone(body)
		resum(body, 1)
		fs := faultfs.New(1)
		o := Options{FS: fs, Dir: "/log", Kind: "fuzz", SegmentBytes: 1 << 16, seed: func() uint32 { return 1 }}
		if err := fs.MkdirAll("/log", 0o700); err != nil {
			t.Fatal(err)
		}
		put := func(h header, body []byte) {
			file, err := fs.OpenFile("/log/"+segmentName(h.first, h.gen), os.O_RDWR|os.O_CREATE, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := file.WriteAt(append(h.encodePage(), body...), 0); err != nil {
				t.Fatal(err)
			}
			file.Close()
		}
		put(h, body)
		if later {
			put(header{kind: "fuzz", first: 12, gen: 4, seed: 1}, putFrame(nil, 1, frameEntry, 12, 1, []byte("z")))
		}
		v, err := OpenReadOnly(o)
		if err != nil {
			t.Fatal(err)
		}
		vr, err := v.Reader(0)
		if err != nil {
			t.Fatal(err)
		}
		readDamaged(t, vr)
		l, rec, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		r, err := l.Reader(0)
		if err != nil {
			t.Fatal(err)
		}
		out := readDamaged(t, r)
		for i, p := range out.got {
			if !bytes.Contains(body, []byte(p)) && i != 12 {
				t.Fatalf("entry %d is invented: %q", i, p)
			}
		}
		if len(out.lost) > 0 {
			t.Fatalf("Open left damage: %v, %v", out.lost, rec)
		}
		next := l.Last() + 1
		if got, err := l.Append([]byte("more")); err != nil || got != next {
			t.Fatal(got, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l, again, err := Open(o)
		if err != nil || !again.Clean() || l.Last() != next {
			t.Fatalf("first %v, again %v %v", rec, again, err)
		}
		l.Close()
		if fs.OpenFiles() != 0 {
			t.Fatalf("%d files open", fs.OpenFiles())
		}
	})
}

// FuzzHeader: what decodes encodes to the same bytes.
func FuzzHeader(f *testing.F) {
	f.Add(header{kind: "journal", first: 9, gen: 3, seed: 7}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHeader(b)
		if err != nil {
			if !errors.Is(err, ErrMagic) && !errors.Is(err, ErrVersion) && !errors.Is(err, ErrChecksum) {
				t.Fatal(err)
			}
			return
		}
		again, err := decodeHeader(h.encode())
		if err != nil || again != h {
			t.Fatal(again, err)
		}
	})
}
