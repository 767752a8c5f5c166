package group

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/eventtree"
	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// A group's pieces are all of its bytes, each once and in order, in every version.
func TestPieces(t *testing.T) {
	t.Parallel()
	c := codec(t)
	big, _, err := c.Encode(bigTable(t, 9, 2<<20))
	if err != nil {
		t.Fatal(err)
	}
	blobs := map[string][]byte{"big": big}
	files, err := filepath.Glob("testdata/*.group")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	for _, f := range files {
		if blobs[f], err = os.ReadFile(f); err != nil {
			t.Fatal(err)
		}
	}
	for name, blob := range blobs {
		g, err := c.Open(blob)
		if err != nil {
			t.Fatal(err)
		}
		pieces, err := g.Pieces()
		if err != nil || !bytes.Equal(bytes.Join(pieces, nil), blob) {
			t.Errorf("%s: %d pieces are not its bytes: %v", name, len(pieces), err)
		}
		// Whatever bit is changed, it is another group.
		tree, flat := c.Sum(blob, false, true), c.Sum(blob, true, false)
		if tree.Pieces != uint64(len(pieces)) || !tree.Is(tree.Tree, tree.Pieces) || !flat.Is(flat.Flat, 0) {
			t.Errorf("%s: %+v, %+v", name, tree, flat)
		}
		for at := 0; at < len(blob); at += 1 + len(blob)/200 {
			bad := slices.Clone(blob)
			bad[at] ^= 4
			if s := c.Sum(bad, false, true); s.Is(tree.Tree, tree.Pieces) {
				t.Fatalf("%s: byte %d is in no piece", name, at)
			}
		}
		for _, other := range [][]byte{append(slices.Clone(blob), 0), blob[:len(blob)-1]} {
			if s := c.Sum(other, false, true); s.Is(tree.Tree, tree.Pieces) {
				t.Errorf("%s: %d bytes for %d", name, len(other), len(blob))
			}
		}
	}
}

// resection writes a group with other entries in its section table, as somebody who knows the format can.
func resection(blob []byte, fn func(i int, s *section)) []byte {
	out := slices.Clone(blob)
	n := int(binary.LittleEndian.Uint16(out[10:]))
	for i := range n {
		e := out[headSize+i*sectionSize:]
		s := section{kind: e[0], arg: e[1], crc: binary.LittleEndian.Uint32(e[4:]), off: binary.LittleEndian.Uint64(e[8:]), len: binary.LittleEndian.Uint64(e[16:])}
		fn(i, &s)
		e[0], e[1] = s.kind, s.arg
		binary.LittleEndian.PutUint32(e[4:], crc32.Checksum(out[min(s.off, uint64(len(out))):min(s.off+s.len, uint64(len(out)))], castagnoli))
		binary.LittleEndian.PutUint64(e[8:], s.off)
		binary.LittleEndian.PutUint64(e[16:], s.len)
	}
	binary.LittleEndian.PutUint32(out[12:], headSum(out, headSize+n*sectionSize))
	return out
}

// A group whose sections leave bytes out, overlap or lie in another order has no pieces: what is not hashed could be
// anything.
func TestPiecesRefused(t *testing.T) {
	t.Parallel()
	c := codec(t)
	blob, _, err := c.Encode(bigTable(t, 3, 1<<18))
	if err != nil {
		t.Fatal(err)
	}
	for what, fn := range map[string]func(i int, s *section){
		"a hole":       func(i int, s *section) { s.off, s.len = s.off+uint64(i%2), s.len-uint64(i%2) },
		"an overlap":   func(i int, s *section) { s.len += uint64(1 - i%2) },
		"one left out": func(i int, s *section) { s.len *= uint64(min(1, i%7)) },
		"all in one":   func(_ int, s *section) { s.off, s.len = headSize, 80 },
		"another order": func(_ int, s *section) {
			switch s.kind {
			case secData:
				s.kind = secFrames
			case secFrames:
				s.kind = secData
			}
		},
	} {
		g, err := c.openHead(resection(blob, fn))
		if err != nil {
			continue
		}
		if g.frames, err = g.section(secFrames, 0); err != nil || len(g.frames)%frameSize != 0 {
			g.frames = nil
		}
		if _, err := g.Pieces(); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// shownOf shows the pieces of some events of a group.
func shownOf(c *Codec, g *Group, ordinals []int64) (s *Shown, pieces [][]byte, needed []int64, err error) {
	if pieces, err = g.Pieces(); err != nil {
		return nil, nil, nil, err
	}
	if needed, err = g.Needed(ordinals); err != nil {
		return nil, nil, nil, err
	}
	if s, err = c.OpenShown(pieces[0]); err != nil {
		return nil, nil, nil, err
	}
	for _, n := range needed[1:] {
		if !s.IsFrame(n) {
			err = errors.Join(err, s.Add(n, pieces[n]))
		}
	}
	return s, pieces, needed, errors.Join(err, s.Open(uint64(len(pieces)), uint64(len(g.b)), g.Summary.Events))
}

// What is read of a few pieces is what the group has, for any events.
func TestShown(t *testing.T) {
	t.Parallel()
	c := codec(t)
	r, err := NewReader(1, 64<<20, 32<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	blob, sum, err := c.Encode(bigTable(t, 9, 2<<20))
	if err != nil {
		t.Fatal(err)
	}
	g, err := c.Open(blob)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := g.EventTree(nil)
	if err != nil {
		t.Fatal(err)
	}
	last := int64(sum.Events - 1)
	for _, want := range [][]int64{{0}, {last}, {0, last}, {last / 2}, {1, 2, 3, last / 3, last - 1}} {
		s, pieces, needed, err := shownOf(r, g, want)
		if err != nil {
			t.Fatal(err)
		}
		var h eventtree.Hasher
		seen := map[int64]bool{}
		err = s.Events(func(n int64) bool { return slices.Contains(needed, n) }, func(n int64) ([]byte, error) { return pieces[n], nil }, func(o int64, e *eventtree.Event) error {
			seen[o] = true
			if h.Event(e) != tree.Event(o) {
				t.Errorf("event %d is another one", o)
			}
			return nil
		})
		if err != nil || len(seen) == int(sum.Events) {
			t.Errorf("%v: %d events seen: %v", want, len(seen), err)
		}
		for _, o := range want {
			if !seen[o] {
				t.Errorf("%v: event %d is not shown", want, o)
			}
		}
	}
}

// FuzzShown: whatever a group's bytes are, what is read of its pieces is what is read of the group.
func FuzzShown(f *testing.F) {
	c, err := NewCodec(1)
	if err != nil {
		f.Fatal(err)
	}
	r, err := NewReader(1, 8<<20, 8<<20)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { c.Close(); r.Close() })
	blob, _, err := c.Encode(fixtureTable(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(blob, 0, byte(0))
	f.Add(blob, 500, byte(3))
	f.Fuzz(func(t *testing.T, b []byte, at int, x byte) {
		if at >= 0 && at < len(b) {
			b = slices.Clone(b)
			b[at] ^= x
			if len(b) >= headSize && headSize+int(binary.LittleEndian.Uint16(b[10:]))*sectionSize <= len(b) {
				b = resection(b, func(int, *section) {})
			}
		}
		g, err := c.Open(b)
		if err != nil || g.Summary.Events == 0 {
			return
		}
		s, pieces, _, err := shownOf(r, g, []int64{0, int64(g.Summary.Events - 1)}[:min(2, g.Summary.Events)])
		if err != nil {
			return
		}
		var h eventtree.Hasher
		var got []eventtree.Hash
		err = s.Events(func(int64) bool { return true }, func(n int64) ([]byte, error) { return pieces[n], nil }, func(_ int64, e *eventtree.Event) error {
			got = append(got, h.Event(e))
			return nil
		})
		tree, werr := g.EventTree(nil)
		if err == nil && (werr != nil || int(tree.Len()) != len(got)) {
			t.Fatalf("%d events shown, of %d: %v", len(got), tree.Len(), werr)
		}
	})
}
