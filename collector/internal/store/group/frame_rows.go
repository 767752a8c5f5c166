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

// rowsReader is what frames of rows are unpacked with. One goroutine uses it at a time.
type rowsReader struct {
	rows.Decoder
	table   *rows.Table
	streams [rows.Streams][]byte
	lines   int
	tail    bool
	memory  []byte // of the streams
}

// unpackRows is the reverse of packFrame for a frame of rows, of b behind its form; size is that of the text.
func (g *Group) unpackRows(buf, b []byte, size int) ([]byte, error) {
	r := g.c.decoders.Get().(*rowsReader)
	defer g.c.release(r)
	if err := g.openRows(r, b, size); err != nil {
		return nil, err
	}
	text, err := r.Decode(buf[:0], r.table, &r.streams, r.lines, r.tail, size)
	if err != nil {
		return nil, damaged("%v", err)
	}
	return text, nil
}

// keptRows is up to what size a rowsReader's memory is kept for the next frame.
const keptRows = 4 << 20

func (c *Codec) release(r *rowsReader) {
	clear(r.streams[:]) // some are the group's bytes
	if r.table = nil; cap(r.memory) <= keptRows {
		c.decoders.Put(r)
	}
}

// openRows unpacks the streams of a frame of rows.
func (g *Group) openRows(to *rowsReader, b []byte, size int) (err error) {
	if to.table, err = g.templates(); err != nil {
		return err
	}
	r := varint.NewReader(b)
	head := r.Uvarint()
	var sizes, stored [rows.Streams]uint64
	var packed [rows.Streams]bool
	total := uint64(0)
	for i := range sizes {
		v := r.Uvarint()
		sizes[i], packed[i] = v>>1, v&1 != 0
		if stored[i] = sizes[i]; packed[i] {
			stored[i] = r.Uvarint()
		}
		if total += sizes[i]; sizes[i] > uint64(size) || total > uint64(size) {
			return damaged("rows of more bytes than their text")
		}
	}
	if head>>1 > uint64(size)+1 {
		return damaged("%d lines in %d bytes", head>>1, size)
	}
	to.lines, to.tail = int(head>>1), head&1 != 0
	if room := min(total, 64*uint64(len(b))+1024) + decodeMargin; uint64(cap(to.memory)) < room {
		to.memory = make([]byte, 0, room)
	}
	free := to.memory
	for i := range sizes {
		if to.streams[i], err = g.c.unpackTo(free, r.Bytes(stored[i]), packed[i], sizes[i]); err != nil {
			return err
		}
		if n := len(to.streams[i]); packed[i] && n <= cap(free) {
			free = free[n:n:cap(free)]
		}
	}
	if !r.Done() {
		return damaged("streams of another length")
	}
	return nil
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
