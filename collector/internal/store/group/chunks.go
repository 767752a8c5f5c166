package group

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
	"sort"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/varint"
)

// From version 5 on a field's values lie in chunks of some hundred each, and its dictionary says what the first value of each chunk
// is: to look a value up, one chunk is unpacked. All chunks lie in one section, those of a field one behind the other.
const (
	chunkValues   = 512
	chunkKeys     = 16 << 10 // bytes of values
	chunkPostings = 32 << 10 // bytes of postings

	maxChunk = 64 << 20 // bytes of a chunk's values; one alone may be as long as a record
)

// chunkRef is a chunk by its field's dictionary.
type chunkRef struct {
	first    []byte // its first value
	values   int
	off, len uint64 // in the section of chunks
	crc      uint32
}

// values are a field's dictionary, of any version. It is for one goroutine, and used no longer than the group's bytes.
type values struct {
	c    *Codec
	one  *dict // up to version 4: all values
	refs []chunkRef
	all  []byte // the section of chunks
	at   int    // the chunk that is open
	open *dict
}

// dict opens a field's dictionary; nil without an error when there is none.
func (g *Group) dict(f query.Field) (*values, error) {
	b, err := g.section(secDict, byte(f))
	if b == nil || err != nil {
		return nil, err
	}
	v := &values{c: g.c}
	if g.version <= batchVersion {
		v.one, err = g.c.openDict(b)
		return v, err
	}
	d, keys, err := g.c.splitDict(b)
	if err != nil {
		return nil, err
	}
	if v.all, err = g.section(secChunks, 0); err != nil {
		return nil, err
	}
	return v, v.read(keys, d.n)
}

// read reads where the chunks lie, of so many.
func (v *values) read(keys []byte, n int) error {
	r := varint.NewReader(keys)
	at := r.Uvarint()
	v.refs = make([]chunkRef, 0, n)
	for range n {
		c := chunkRef{first: r.Bytes(r.Uvarint()), values: int(min(r.Uvarint(), maxChunk)), off: at, len: r.Uvarint()}
		crc := r.Bytes(4)
		if crc == nil || c.off > uint64(len(v.all)) || c.len > uint64(len(v.all))-c.off {
			return damaged("chunk %d of %d at %d, %d bytes of %d", len(v.refs), n, c.off, c.len, len(v.all))
		}
		c.crc = binary.LittleEndian.Uint32(crc)
		at += c.len
		v.refs = append(v.refs, c)
	}
	if !r.Done() {
		return damaged("a dictionary of %d chunks", n)
	}
	return nil
}

// chunk opens a chunk. It is valid until another one is opened.
func (v *values) chunk(i int) (*dict, error) {
	if v.open != nil && v.at == i {
		return v.open, nil
	}
	c := &v.refs[i]
	b := v.all[c.off : c.off+c.len]
	if crc32.Checksum(b, castagnoli) != c.crc {
		return nil, damaged("checksum of the chunk of values at %d", c.off)
	}
	d, err := v.c.openChunk(b, v.open)
	v.open = nil
	if err != nil {
		return nil, err
	}
	if d.n != c.values || d.n == 0 || string(d.value(0)) != string(c.first) {
		return nil, damaged("the chunk at %d has %d values, %d were said", c.off, d.n, c.values)
	}
	v.open, v.at = d, i
	return d, nil
}

// each calls fn with each value, in order, as a dictionary and the value's index there.
func (v *values) each(fn func(d *dict, i int) error) error {
	if v.one != nil {
		return eachOf(v.one, fn)
	}
	for i := range v.refs {
		d, err := v.chunk(i)
		if err == nil {
			err = eachOf(d, fn)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func eachOf(d *dict, fn func(d *dict, i int) error) error {
	for i := range d.n {
		if err := fn(d, i); err != nil {
			return err
		}
	}
	return nil
}

// matching calls fn with each value that a condition accepts. Where known says of no chunk that it has what all accepted values contain, that chunk stays packed.
func (v *values) matching(c *store.Condition, known *spans, fn func(d *dict, i int) error) error {
	in := func(d *dict) error { return d.matching(c, func(i int) error { return fn(d, i) }) }
	if v.one != nil {
		return in(v.one)
	}
	if c.Exact == nil {
		for i := range known.having(c.Part, len(v.refs)) {
			d, err := v.chunk(i)
			if err == nil {
				err = in(d)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	for _, text := range c.Exact {
		i := sort.Search(len(v.refs), func(i int) bool { return string(v.refs[i].first) > text })
		if i == 0 {
			continue
		}
		d, err := v.chunk(i - 1)
		if err != nil {
			return err
		}
		if k := d.find(text); k >= 0 {
			if err := fn(d, k); err != nil {
				return err
			}
		}
	}
	return nil
}

// openChunk takes a chunk apart: a dictionary whose keys are, of each value, the bytes that it shares with the one before, those that it
// does not, what stands in front of its postings, their length, and the bytes that it does not share. It uses the memory of room, a chunk that is
// not used any more, or nil.
func (c *Codec) openChunk(b []byte, room *dict) (*dict, error) {
	d, keys, err := c.splitDict(b)
	if err != nil {
		return nil, err
	}
	if room != nil {
		d.texts, d.lens, d.plens, d.heads, d.one = room.texts[:0], room.lens[:0], room.plens[:0], room.heads[:0], room.one
	}
	d.lens, d.plens, d.heads = slices.Grow(d.lens, d.n)[:d.n], slices.Grow(d.plens, d.n)[:d.n], slices.Grow(d.heads, d.n)[:d.n]
	if cap(d.texts) == 0 {
		d.texts = make([]byte, 0, min(2*len(keys), chunkKeys))
	}
	last, posts, at := 0, uint64(0), 0
	number := func() uint64 {
		if at < len(keys) && keys[at] < 0x80 { // nearly all
			at++
			return uint64(keys[at-1])
		}
		v, k := binary.Uvarint(keys[min(at, len(keys)):])
		if k <= 0 {
			at = len(keys) + 1
			return 0
		}
		at += k
		return v
	}
	for i := range d.n {
		shared, rest := number(), number()
		d.heads[i] = number()
		size := number()
		if at > len(keys) || rest > uint64(len(keys)-at) || shared > uint64(len(d.texts)-last) || uint64(len(d.texts))+shared+rest > maxChunk || size > d.size-posts {
			return nil, damaged("value %d of a chunk", i)
		}
		from := len(d.texts)
		d.texts = append(d.texts, d.texts[last:last+int(shared)]...)
		d.texts = append(d.texts, keys[at:at+int(rest)]...)
		at += int(rest)
		posts += size
		d.lens[i], d.plens[i], last = uint32(len(d.texts)), uint32(posts), from
	}
	if at != len(keys) || posts != d.size || d.size > maxDict {
		return nil, damaged("a chunk's postings of %d bytes in %d", posts, d.size)
	}
	return &d, nil
}

// chunker writes the dictionaries of a group's fields.
type chunker struct {
	c      *Codec
	all    []byte // the section of chunks
	refs   []byte // of the present field
	chunks int    // likewise
	keys   []byte // of the present chunk, as is all below
	posts  []byte
	n      int
	size   int // bytes of values
	first  []byte
	prev   []byte
	texts  bool // the field's short texts are wanted
	spans  []spanTexts
}

// begin begins a field, whose short texts are wanted or not.
func (w *chunker) begin(texts bool) {
	w.texts, w.spans = texts, nil
	w.refs, w.chunks = binary.AppendUvarint(nil, uint64(len(w.all))), 0
}

// add adds the field's next value with its postings.
func (w *chunker) add(text string, head uint64, body []byte) {
	if w.n > 0 && (w.n >= chunkValues || w.size+len(text) > chunkKeys || len(w.posts)+len(body) > chunkPostings) {
		w.flush()
	}
	shared := 0
	if w.n == 0 {
		w.first = append(w.first[:0], text...)
	} else {
		for shared < len(text) && shared < len(w.prev) && text[shared] == w.prev[shared] {
			shared++
		}
	}
	for _, v := range [...]uint64{uint64(shared), uint64(len(text) - shared), head, uint64(len(body))} {
		w.keys = binary.AppendUvarint(w.keys, v)
	}
	w.keys = append(w.keys, text[shared:]...)
	w.posts = append(w.posts, body...)
	w.prev = append(w.prev[:0], text...)
	if w.texts {
		if w.n == 0 && w.chunks%spanChunks == 0 {
			w.spans = append(w.spans, spanTexts{})
		}
		w.spans[len(w.spans)-1].add(w.prev, shared)
	}
	w.n++
	w.size += len(text)
}

func (w *chunker) flush() {
	if w.n == 0 {
		return
	}
	b := w.c.dictBody(w.n, w.keys, w.posts)
	w.refs = append(binary.AppendUvarint(w.refs, uint64(len(w.first))), w.first...)
	w.refs = binary.AppendUvarint(binary.AppendUvarint(w.refs, uint64(w.n)), uint64(len(b)))
	w.refs = binary.LittleEndian.AppendUint32(w.refs, crc32.Checksum(b, castagnoli))
	w.all = append(w.all, b...)
	w.chunks++
	w.keys, w.posts, w.n, w.size = w.keys[:0], w.posts[:0], 0, 0
}

// end ends the field and returns its dictionary, and where its short texts are.
func (w *chunker) end() (dictionary, spans []byte) {
	w.flush()
	return w.c.dictBody(w.chunks, w.refs, nil), encodeSpans(w.spans)
}
