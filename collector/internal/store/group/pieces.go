package group

import (
	"crypto/sha256"
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/eventtree"
)

// A group's pieces are its head, each of its sections but the frames, in the order in which they lie there, and each of its
// frames. Together they are all of its bytes. The tree over them is what a leaf of the log has of a group: so a frame can be
// proved without the others, by hashing what is stored, a tenth of the text.

// headPiece is the number of the piece that has the head and the section table.
const headPiece = 0

// framePiece is the number of a frame's piece: the head and all sections but the frames' own are before.
func (g *Group) framePiece(frame uint32) int64 { return int64(len(g.sections)) + int64(frame) }

// checkLayout makes sure that the sections lie as Encode puts them: one behind the other, from the end of the
// table to the end of the group, the frames last. Only so do the pieces cover all bytes. It returns the group's size.
func (g *Group) checkLayout() (size uint64, err error) {
	at := uint64(headSize + len(g.sections)*sectionSize)
	for i, s := range g.sections {
		if s.off != at || s.len > 1<<62 || (s.kind == secData) != (i == len(g.sections)-1) {
			return 0, damaged("section %d at %d, %d bytes: the one before ends at %d", i, s.off, s.len, at)
		}
		at += s.len
	}
	if len(g.sections) == 0 {
		return 0, damaged("no sections")
	}
	// The frames lie one behind the other, too.
	end := uint64(0)
	for i := range len(g.frames) / frameSize {
		f := rawFrame(g.frames[i*frameSize:])
		if uint64(f.off) != end {
			return 0, damaged("frame %d at %d: the one before ends at %d", i, f.off, end)
		}
		end += uint64(f.stored)
	}
	if data := g.sections[len(g.sections)-1].len; end != data {
		return 0, damaged("frames of %d bytes in %d", end, data)
	}
	return at, nil
}

// Pieces returns the group's pieces, each a part of its bytes. Error: store.ErrDamaged, also where its
// sections lie otherwise than Encode puts them.
func (g *Group) Pieces() ([][]byte, error) {
	size, err := g.checkLayout()
	if err != nil {
		return nil, err
	}
	if size != uint64(len(g.b)) {
		return nil, damaged("%d bytes behind the last section", uint64(len(g.b))-size)
	}
	last := len(g.sections) - 1
	pieces := make([][]byte, 0, last+1+len(g.frames)/frameSize)
	pieces = append(pieces, g.b[:headSize+len(g.sections)*sectionSize])
	for _, s := range g.sections[:last] {
		pieces = append(pieces, g.b[s.off:s.off+s.len])
	}
	data := g.b[g.sections[last].off:]
	for i := range len(g.frames) / frameSize {
		f := rawFrame(g.frames[i*frameSize:])
		pieces = append(pieces, data[f.off:uint64(f.off)+uint64(f.stored)])
	}
	return pieces, nil
}

// PieceTree returns the tree over the group's pieces. Error: store.ErrDamaged.
func (g *Group) PieceTree() (*eventtree.Tree, error) {
	pieces, err := g.Pieces()
	if err != nil {
		return nil, err
	}
	var h eventtree.Hasher
	t := eventtree.NewTree(len(pieces))
	for _, p := range pieces {
		t.Add(h.Piece(p))
	}
	return t, nil
}

// Needed returns, ascending, the numbers of the pieces by which somebody can read the events with these ordinals, which ascend: what
// says of all events whose they are and where they lie, and the frames that have them.
func (g *Group) Needed(ordinals []int64) ([]int64, error) {
	out := []int64{headPiece}
	for i, s := range g.sections {
		if neededSection(s.kind) {
			out = append(out, int64(1+i))
		}
	}
	for i := range g.numBlocks() {
		blk, _ := rawBlock(g.blocks[i*blockSize:])
		at, _ := slices.BinarySearch(ordinals, int64(blk.First))
		if p := g.framePiece(blk.Frame); at < len(ordinals) && ordinals[at] < int64(blk.First)+int64(blk.Events) && out[len(out)-1] != p {
			out = append(out, p)
		}
	}
	if !slices.IsSorted(out) { // of no group that Encode has made
		return nil, damaged("blocks are not in the order of their frames")
	}
	return out, nil
}

func neededSection(kind byte) bool {
	switch kind {
	case secSummary, secHosts, secBlocks, secFrames, secSenders, secReceipt, secBatches, secRows, secParts:
		return true
	}
	return false
}

// Shown is a group of which only some pieces are at hand, in order of their numbers. It is for one goroutine.
type Shown struct{ g *Group }

// OpenShown begins with a group's first piece: of how many pieces it says that there are is known once the others are.
// Error: as of Open.
func (c *Codec) OpenShown(head []byte) (*Shown, error) {
	g, err := c.openTable(head)
	if err != nil {
		return nil, err
	}
	if len(head) != headSize+len(g.sections)*sectionSize {
		return nil, damaged("a head of %d bytes with %d sections", len(head), len(g.sections))
	}
	g.shown = make([][]byte, len(g.sections))
	return &Shown{g: g}, nil
}

// IsFrame says whether the piece with this number is a frame, or beyond the last one.
func (s *Shown) IsFrame(number int64) bool { return number >= int64(len(s.g.sections)) }

// Add adds a section by the number of its piece, and keeps it.
func (s *Shown) Add(number int64, body []byte) error {
	if number <= headPiece || s.IsFrame(number) {
		return damaged("piece %d is no section", number)
	}
	s.g.shown[number-1] = body
	return nil
}

// Open takes the group's tables from its sections. pieces is how many the group is said to have, size how many bytes, events how
// many events.
func (s *Shown) Open(pieces, size, events uint64) error {
	if err := s.g.openTables(); err != nil {
		return err
	}
	got, err := s.g.checkLayout()
	if err != nil {
		return err
	}
	if n := uint64(len(s.g.sections) + len(s.g.frames)/frameSize); n != pieces || got != size || s.g.Summary.Events != events {
		return damaged("%d pieces with %d bytes and %d events, %d with %d and %d were said", n, got, s.g.Summary.Events, pieces, size, events)
	}
	return nil
}

// Events calls fn with each event of the frames that has says are shown, by its ordinal. read returns the bytes of a frame's piece,
// which are used until it is called again. Error: store.ErrDamaged, and those of read and fn.
func (s *Shown) Events(has func(piece int64) bool, read func(piece int64) ([]byte, error), fn func(ordinal int64, e *eventtree.Event) error) error {
	g := s.g
	text := func(buf []byte, frame uint32) ([]byte, error) {
		b, err := read(g.framePiece(frame))
		if err != nil {
			return nil, err
		}
		return g.unpackFrame(buf, frame, b)
	}
	return g.walk(func(blk *Block) bool { return has(g.framePiece(blk.Frame)) }, text, fn)
}

// Sum is what a leaf of the log has of a group's bytes: the root of the tree over its pieces, or, in older ones, the
// SHA-256 of all.
type Sum struct {
	Flat, Tree eventtree.Hash
	Pieces     uint64 // 0: Tree was not made, or could not be
}

// Sum hashes a group as leaves of one kind have it, or of both. Of bytes that cannot be cut into pieces there is no tree.
func (c *Codec) Sum(b []byte, flat, tree bool) (s Sum) {
	if flat {
		s.Flat = sha256.Sum256(b)
	}
	if !tree {
		return s
	}
	if g, err := c.Open(b); err == nil {
		if t, err := g.PieceTree(); err == nil {
			s.Tree, s.Pieces = t.Root(), uint64(t.Len())
		}
	}
	return s
}

// Is says whether a group with this sum is the one of which a leaf has that hash over so many pieces, 0 for all bytes at once.
func (s *Sum) Is(hash eventtree.Hash, pieces uint64) bool {
	if pieces == 0 {
		return s.Flat == hash
	}
	return s.Pieces == pieces && s.Tree == hash
}

// BatchesOf is a group's, of the pieces that are shown.
func (s *Shown) BatchesOf(ordinals []int64) ([]uint64, error) { return s.g.BatchesOf(ordinals) }
