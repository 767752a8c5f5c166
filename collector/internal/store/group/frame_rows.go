package group

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"sync"

	"github.com/auditfleet/auditfleet/collector/internal/store/group/rows"
	"github.com/auditfleet/auditfleet/pkg/varint"
)

// A frame of version 5 begins with a byte: its form. Where the rest is rows, the group's templates are needed, too.
const (
	formPlain = 0 // zstd
	formRows  = 1 // package rows, each stream zstd

	// A frame of rows that is larger than this part of its text is compared with a plain one.
	poorRows = 8
)

// rowsCoder codes frames as rows, and looks whether they come back.
type rowsCoder struct {
	*rows.Encoder
	d    rows.Decoder
	back []byte
}

// packFrame appends a frame of version 5 to dst.
func (c *Codec) packFrame(dst []byte, e *rowsCoder, text []byte) []byte {
	streams, lines, tail := e.Encode(text)
	var err error
	e.back, err = e.d.Decode(e.back[:0], e.Table(), streams, lines, tail, len(text))
	if err != nil || !bytes.Equal(e.back, text) { // a fault of rows costs room, never text
		return c.enc.EncodeAll(text, append(dst, formPlain))
	}
	from, total := len(dst), 0
	dst = append(dst, formRows)
	dst = binary.AppendUvarint(dst, uint64(lines)<<1|b2u(tail))
	var bodies [rows.Streams][]byte
	for i, s := range streams {
		b, packed := c.shrink(s)
		bodies[i] = b
		if dst = binary.AppendUvarint(dst, uint64(len(s))<<1|b2u(packed)); packed {
			dst = binary.AppendUvarint(dst, uint64(len(b)))
		}
		total += len(s)
	}
	for _, b := range bodies {
		dst = append(dst, b...)
	}
	if n := len(dst) - from; n > len(text)/poorRows || total > len(text) {
		if plain := c.enc.EncodeAll(text, append(make([]byte, 0, len(text)/4), formPlain)); len(plain) < n || total > len(text) {
			return append(dst[:from], plain...)
		}
	}
	return dst
}

func b2u(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// unpackRows is the reverse of packFrame for a frame of rows, of b behind its form; size is that of the text.
func (g *Group) unpackRows(buf, b []byte, size int) ([]byte, error) {
	t, err := g.templates()
	if err != nil {
		return nil, err
	}
	r := varint.NewReader(b)
	head := r.Uvarint()
	var streams [rows.Streams][]byte
	var sizes, stored [rows.Streams]uint64
	var packed [rows.Streams]bool
	total := uint64(0)
	for i := range streams {
		v := r.Uvarint()
		sizes[i], packed[i] = v>>1, v&1 != 0
		if stored[i] = sizes[i]; packed[i] {
			stored[i] = r.Uvarint()
		}
		if total += sizes[i]; sizes[i] > uint64(size) || total > uint64(size) {
			return nil, damaged("rows of more bytes than their text")
		}
	}
	if head>>1 > uint64(size)+1 {
		return nil, damaged("%d lines in %d bytes", head>>1, size)
	}
	for i := range streams {
		if streams[i], err = g.c.unpack(r.Bytes(stored[i]), packed[i], sizes[i]); err != nil {
			return nil, err
		}
	}
	if !r.Done() {
		return nil, damaged("streams of another length")
	}
	d := g.c.decoders.Get().(*rows.Decoder)
	text, err := d.Decode(buf[:0], t, &streams, int(head>>1), head&1 != 0, size)
	g.c.decoders.Put(d)
	if err != nil {
		return nil, damaged("%v", err)
	}
	return text, nil
}

// templates returns the templates of the group's rows.
func (g *Group) templates() (*rows.Table, error) {
	if g.rows != nil {
		return g.rows, nil
	}
	b, err := g.section(secRows, 0)
	if err != nil {
		return nil, err
	}
	g.rows, err = g.c.tables.get(b, func() (*rows.Table, error) {
		_, keys, err := g.c.splitDict(b)
		if err != nil {
			return nil, err
		}
		t, err := rows.ReadTable(keys)
		if err != nil {
			return nil, damaged("templates: %v", err)
		}
		return t, nil
	})
	return g.rows, err
}

// tables keeps the templates of the groups that were read last: a group is opened for each frame that is read.
type tables struct {
	seed maphash.Seed
	mu   sync.Mutex // guards all
	all  map[uint64]*rows.Table
}

const maxTables = 64 // of some hundred KiB, at most 2 MiB each

func (t *tables) get(b []byte, fill func() (*rows.Table, error)) (*rows.Table, error) {
	key := maphash.Bytes(t.seed, b)
	t.mu.Lock()
	x := t.all[key]
	t.mu.Unlock()
	if x != nil {
		return x, nil
	}
	x, err := fill()
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for k := range t.all { // any of them
		if len(t.all) < maxTables {
			break
		}
		delete(t.all, k)
	}
	t.all[key] = x
	return x, nil
}
