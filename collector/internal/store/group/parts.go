package group

import (
	"encoding/binary"
	"hash/crc32"
	"slices"

	"github.com/auditfleet/auditfleet/pkg/varint"
)

// What is known of each event beside its text, its receipt and its batch, are bytes by block: parts. From version 5 on the parts of
// partBlocks blocks lie together, compressed, in a chunk with a checksum of its own, so that what asks for a few events does not unpack those of all.
const partBlocks = 64

// parts are the bytes of each block, of the chunks that were read. It holds none of the group's bytes.
type parts struct {
	per    int // blocks a chunk
	chunks []partChunk
}

// partChunk are the parts of some blocks in a row; ends is nil where they were not read.
type partChunk struct {
	ends []uint32 // by block: where its part ends in all
	all  []byte
}

// of returns a block's part; false where it was not read.
func (p *parts) of(block int) ([]byte, bool) {
	if p.per == 0 || block/p.per >= len(p.chunks) {
		return nil, false
	}
	c := &p.chunks[block/p.per]
	if c.ends == nil || block%p.per >= len(c.ends) {
		return nil, false
	}
	from, to := span(c.ends, block%p.per)
	return c.all[from:to], true
}

// readParts reads the parts of so many blocks: the length of each, then the bytes of all.
func readParts(lens *varint.Reader, all []byte, blocks int) (c partChunk, err error) {
	end := uint64(0)
	c.ends = make([]uint32, 0, blocks)
	for range blocks {
		n := lens.Uvarint()
		if end += n; n > uint64(len(all)) || end > uint64(len(all)) {
			return c, damaged("parts of %d bytes, %d are there", end, len(all))
		}
		c.ends = append(c.ends, uint32(end))
	}
	if !lens.Done() || end != uint64(len(all)) {
		return c, damaged("parts of %d blocks in %d bytes", blocks, len(all))
	}
	c.all = slices.Clone(all)
	return c, nil
}

// readChunks reads the chunks that want says, nil for all of them, as r says where they lie; check is called with each block's part.
func (g *Group) readChunks(r *varint.Reader, want []bool, check func(block int, part []byte) error) (p parts, err error) {
	all, err := g.section(secParts, 0)
	if err != nil {
		return p, err
	}
	p.per = partBlocks
	at := r.Uvarint()
	n := (g.numBlocks() + partBlocks - 1) / partBlocks
	p.chunks = make([]partChunk, n)
	for i := range n {
		size, crc := r.Uvarint(), r.Bytes(4)
		if crc == nil || at > uint64(len(all)) || size > uint64(len(all))-at {
			return p, damaged("chunk %d of %d at %d, %d bytes of %d", i, n, at, size, len(all))
		}
		b := all[at : at+size]
		if at += size; want != nil && !want[i] {
			continue
		}
		if crc32.Checksum(b, castagnoli) != binary.LittleEndian.Uint32(crc) {
			return p, damaged("checksum of the chunk of parts before %d", at)
		}
		d, lens, err := g.c.splitDict(b)
		if err != nil {
			return p, err
		}
		body, err := g.c.unpack(d.posts, d.packed, d.size)
		if err != nil {
			return p, err
		}
		first := i * partBlocks
		lr := varint.NewReader(lens)
		if p.chunks[i], err = readParts(&lr, body, min(partBlocks, g.numBlocks()-first)); err != nil {
			return p, err
		}
		for k := range p.chunks[i].ends {
			part, _ := p.of(first + k)
			if err := check(first+k, part); err != nil {
				return p, err
			}
		}
	}
	if !r.Done() {
		return p, damaged("more than %d chunks of parts", n)
	}
	return p, nil
}

// chunksOf says in which chunks the parts of candidates lie.
func (g *Group) chunksOf(cands []Candidate) []bool {
	want := make([]bool, (g.numBlocks()+partBlocks-1)/partBlocks)
	for i := range cands {
		if k := cands[i].Index / partBlocks; k < len(want) {
			want[k] = true
		}
	}
	return want
}

// partWriter writes parts in chunks.
type partWriter struct {
	refs      []byte // lengths and checksums of the chunks
	out       []byte // these
	lens, all []byte // of the present chunk
	blocks    int    // likewise
	from      int    // where the present block begins in all
}

// end ends a block.
func (w *partWriter) end(c *Codec) {
	w.lens = binary.AppendUvarint(w.lens, uint64(len(w.all)-w.from))
	w.from = len(w.all)
	if w.blocks++; w.blocks == partBlocks {
		w.flush(c)
	}
}

func (w *partWriter) flush(c *Codec) {
	if w.blocks == 0 {
		return
	}
	b := c.dictBody(w.blocks, w.lens, w.all)
	w.refs = binary.LittleEndian.AppendUint32(binary.AppendUvarint(w.refs, uint64(len(b))), crc32.Checksum(b, castagnoli))
	w.out = append(w.out, b...)
	w.lens, w.all, w.blocks, w.from = w.lens[:0], w.all[:0], 0, 0
}
