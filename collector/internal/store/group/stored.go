package group

import (
	"bytes"
	"hash/crc32"

	"github.com/auditfleet/auditfleet/collector/internal/store/group/rows"
)

// Stored is a frame as it lies in its group, taken out of that: with the group's templates it can be unpacked anywhere.
type Stored struct {
	Version  uint16 // of the group
	Raw, CRC uint32 // as the frame table has them
	Bytes    []byte
}

// Whole reports whether the group has all that its frames need to be unpacked elsewhere.
func (f *Frames) Whole() bool { return f.bad == nil }

// Raw returns how many bytes the text of frame i has; 0 for none.
func (f *Frames) Raw(i uint32) uint32 {
	if uint64(i) >= uint64(len(f.g.frames)/frameSize) {
		return 0
	}
	return rawFrame(f.g.frames[int(i)*frameSize:]).raw
}

// Stored copies a frame out of the group's bytes b. Error: store.ErrDamaged, also where its checksum is another one.
func (f *Frames) Stored(b []byte, i uint32) (*Stored, error) {
	g, err := f.of(b)
	if err != nil {
		return nil, err
	}
	if uint64(i) >= uint64(len(g.frames)/frameSize) {
		return nil, damaged("frame %d of %d", i, len(g.frames)/frameSize)
	}
	data, err := g.stored(i)
	if err != nil {
		return nil, err
	}
	fr := rawFrame(g.frames[int(i)*frameSize:])
	if crc32.Checksum(data, castagnoli) != fr.crc {
		return nil, damaged("checksum of frame %d", i)
	}
	return &Stored{Version: g.version, Raw: fr.raw, CRC: fr.crc, Bytes: bytes.Clone(data)}, nil
}

// Templates copies the templates of the group's frames out of its bytes b; nil where its frames are unpacked without any.
func (f *Frames) Templates(b []byte) ([]byte, error) {
	g, err := f.of(b)
	if err != nil || g.version <= batchVersion {
		return nil, err
	}
	t, err := g.section(secRows, 0)
	return bytes.Clone(t), err
}

// Templates are those of a group whose frames were taken out of it. Any number of goroutines may use them.
type Templates struct{ t *rows.Table }

// ReadTemplates reads templates as Frames.Templates has them.
func (c *Codec) ReadTemplates(b []byte) (*Templates, error) {
	g := Group{c: c, version: Version, sections: []section{{kind: secRows, crc: crc32.Checksum(b, castagnoli), len: uint64(len(b))}}, b: b}
	t, err := g.templates()
	if err != nil {
		return nil, err
	}
	return &Templates{t}, nil
}

// Unpack returns the text of a frame. It uses buf's memory where that is large enough, and never the frame's. t may be nil of a frame that needs
// none. Error: store.ErrDamaged.
func (c *Codec) Unpack(buf []byte, f *Stored, t *Templates) ([]byte, error) {
	if f.Version < OldVersion || f.Version > Version {
		return nil, damaged("a frame of version %d", f.Version)
	}
	g := Group{c: c, version: f.Version}
	if t != nil {
		g.rows = t.t
	}
	return g.unpackStored(buf, f.Bytes, f.Raw, f.CRC)
}

// Cut returns the part of a frame's text that a block at off has, of so many bytes.
func Cut(frame []byte, off, size uint32) ([]byte, error) {
	b := Block{Off: off, Len: size}
	return b.Cut(frame)
}

// Runs returns which batches the events of a block are of, as NewBatchReader reads it; index is the block's in the group. A nil receiver is allowed.
func (b *Batches) Runs(index int) []byte {
	if b == nil {
		return nil
	}
	part, _ := b.parts.of(index)
	return part
}
