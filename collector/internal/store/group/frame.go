package group

import (
	"bytes"
	"fmt"
	"hash/crc32"
)

// decodeMargin is room behind the text that lets the decoder copy whole words; without
// it the decoder takes a slower path.
const decodeMargin = 64

// Text returns the unpacked text of frame i. It uses buf's memory where that is large
// enough, and never the group's bytes.
func (g *Group) Text(buf []byte, i uint32) ([]byte, error) {
	if uint64(i) >= uint64(len(g.frames)/frameSize) {
		return nil, damaged("frame %d of %d", i, len(g.frames)/frameSize)
	}
	b, err := g.stored(i)
	if err != nil {
		return nil, err
	}
	return g.unpackFrame(buf, i, b)
}

// Frames reads the frames of a group whose tables were read before, and holds none of its bytes: to open a large group anew for each of them takes as
// long as to unpack one. Once made it never changes, so any number of goroutines may use it.
type Frames struct {
	g    Group // without bytes
	size int   // of the group
	bad  error // why there are no templates
}

// Frames returns what reads the group's frames later.
func (g *Group) Frames() *Frames {
	f := &Frames{g: Group{c: g.c, sections: g.sections, version: g.version, frames: bytes.Clone(g.frames)}, size: len(g.b)}
	if g.version > batchVersion {
		f.g.rows, f.bad = g.templates() // what is wrong with them is said when they are needed
	}
	return f
}

// of returns the group with its bytes.
func (f *Frames) of(b []byte) (*Group, error) {
	if len(b) != f.size {
		return nil, damaged("a group of %d bytes that had %d", len(b), f.size)
	}
	g := f.g
	g.b = b
	return &g, nil
}

// Text is Group.Text, of the group's bytes.
func (f *Frames) Text(b, buf []byte, i uint32) ([]byte, error) {
	g, err := f.of(b)
	if err != nil {
		return nil, err
	}
	return g.Text(buf, i)
}

// stored returns the bytes of frame i as they are stored; i is less than the number of frames.
func (g *Group) stored(i uint32) ([]byte, error) {
	f := rawFrame(g.frames[int(i)*frameSize:])
	data, err := g.section(secData, 0)
	if err != nil {
		return nil, err
	}
	if uint64(f.off)+uint64(f.stored) > uint64(len(data)) || f.raw > maxFrame {
		return nil, damaged("frame %d at %d, %d bytes of %d", i, f.off, f.stored, len(data))
	}
	return data[f.off : f.off+f.stored], nil
}

// unpackFrame is Text for the bytes of a frame as they are stored.
func (g *Group) unpackFrame(buf []byte, i uint32, b []byte) ([]byte, error) {
	f := rawFrame(g.frames[int(i)*frameSize:])
	text, err := g.unpackStored(buf, b, f.raw, f.crc)
	if err != nil {
		return nil, fmt.Errorf("unpack frame %d: %w", i, err)
	}
	return text, nil
}

// unpackStored unpacks the bytes of a frame, of which its table has the size of its text and a checksum.
func (g *Group) unpackStored(buf, b []byte, raw, crc uint32) ([]byte, error) {
	if crc32.Checksum(b, castagnoli) != crc {
		return nil, damaged("its checksum is another one")
	}
	if uint64(raw) > g.c.frame {
		return nil, damaged("its text has %d bytes", raw)
	}
	form := byte(formPlain)
	if g.version > batchVersion {
		if len(b) == 0 {
			return nil, damaged("it has no form")
		}
		form, b = b[0], b[1:]
	}
	if cap(buf) < int(raw)+decodeMargin {
		// raw may be wrong: room is made for no more than 256 times b at first.
		buf = make([]byte, 0, min(int(raw), 256*len(b)+4096)+decodeMargin)
	}
	var text []byte
	var err error
	switch form {
	case formPlain:
		text, err = g.c.dec.DecodeAll(b, buf[:0])
	case formRows:
		text, err = g.unpackRows(buf, b, int(raw))
	default:
		err = fmt.Errorf("its form is %d", form)
	}
	if err != nil {
		return nil, damaged("%v", err)
	}
	if len(text) != int(raw) {
		return nil, damaged("unpacked to %d bytes, %d were said", len(text), raw)
	}
	return text, nil
}

// Cut returns the block's part of its frame's text.
func (b *Block) Cut(frame []byte) ([]byte, error) {
	if uint64(b.Off)+uint64(b.Len) > uint64(len(frame)) {
		return nil, damaged("a block at %d, %d bytes, in a frame of %d", b.Off, b.Len, len(frame))
	}
	return frame[b.Off : b.Off+b.Len : b.Off+b.Len], nil
}
