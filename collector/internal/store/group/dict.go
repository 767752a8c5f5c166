package group

import (
	"bytes"
	"encoding/binary"
	"sort"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// A dictionary section:
//
//	uvarint  number of values
//	byte     1: keys compressed, 2: postings compressed
//	uvarint  keys unpacked, keys stored, postings unpacked, postings stored
//	keys     a uvarint a value: its length; a uvarint a value: its postings' length;
//	         then the values, sorted, one behind the other
//	postings of each value: uvarint count<<1 | kind, then
//	         kind 0: count uvarints, gaps between ordinals of events
//	         kind 1: uvarint n, then n pairs of uvarints: gap between blocks, events there
const (
	keysPacked     = 1
	postingsPacked = 2

	postEvents = 0
	postBlocks = 1

	// A value that more than one event in commonShare has may be kept by blocks: nearly every block has it, so a list of ordinals would be long and
	// narrow little. For a value that one event in ten has a list costs a hundredth of the disk and saves a search most of its work: who asks need
	// not look which events match.
	commonShare = 8

	maxDict = 1 << 30 // no part of a dictionary unpacks to more
)

// dictionaries builds every field's dictionary, by field. values is the table's
// vocabulary; b.ids has each event's values as indexes of it. It runs beside pack, and
// both only read b.
func (c *Codec) dictionaries(b *builder, values []store.Value) []dictionary {
	// A counting sort: all[start[v]:start[v+1]] are the ordinals of the events that have
	// value v, ascending.
	start := make([]uint32, len(values)+1)
	for _, ids := range b.ids {
		for _, id := range ids {
			start[id+1]++
		}
	}
	for i := 1; i < len(start); i++ {
		start[i] += start[i-1]
	}
	all := make([]uint32, start[len(values)])
	at := append([]uint32(nil), start...) // by value: where its next ordinal goes
	for ord, ids := range b.ids {
		for _, id := range ids {
			all[at[id]] = uint32(ord)
			at[id]++
		}
	}
	var byField [query.NumIndexed][]uint32
	for id := range values {
		if start[id+1] > start[id] { // a value that no event has is left out
			byField[values[id].Field] = append(byField[values[id].Field], uint32(id))
		}
	}
	var out []dictionary
	for f, ids := range byField {
		if len(ids) == 0 && !addedField(query.Field(f)) {
			continue // a missing dictionary says that no event has the field
		}
		// Sorted values can be looked up by bisection. Their lengths come before them,
		// and so do those of their postings: one pass over the keys gives all offsets.
		sort.Slice(ids, func(i, j int) bool { return values[ids[i]].Text < values[ids[j]].Text })
		var lens, plens, texts, posts []byte
		for _, id := range ids {
			before := len(posts)
			posts = appendPostings(posts, all[start[id]:start[id+1]], b)
			lens = binary.AppendUvarint(lens, uint64(len(values[id].Text)))
			plens = binary.AppendUvarint(plens, uint64(len(posts)-before))
			texts = append(texts, values[id].Text...)
		}
		keys := append(append(lens, plens...), texts...)
		out = append(out, dictionary{field: query.Field(f), body: c.dictBody(len(ids), keys, posts)})
	}
	return out
}

// dictBody puts a dictionary section together: n, then both parts, each compressed where
// that makes it smaller.
func (c *Codec) dictBody(n int, keys, posts []byte) []byte {
	flags := byte(0)
	k, packed := c.shrink(keys)
	if packed {
		flags |= keysPacked
	}
	p, packed := c.shrink(posts)
	if packed {
		flags |= postingsPacked
	}
	// The sizes stand before both parts, so that a reader can skip the postings.
	body := binary.AppendUvarint(make([]byte, 0, 32+len(k)+len(p)), uint64(n))
	body = append(body, flags)
	for _, v := range [...]int{len(keys), len(k), len(posts), len(p)} {
		body = binary.AppendUvarint(body, uint64(v))
	}
	return append(append(body, k...), p...)
}

// shrink returns b compressed and true; or b itself and false, where it is short or
// compressing would save less than an eighth.
func (c *Codec) shrink(b []byte) ([]byte, bool) {
	if len(b) < 128 {
		return b, false
	}
	packed := c.enc.EncodeAll(b, make([]byte, 0, len(b)/2))
	if len(packed) > len(b)-len(b)/8 {
		return b, false
	}
	return packed, true
}

// unpack is the reverse of shrink: size is the unpacked size by the section's head. A
// size that is wrong costs little: room is made for at most 64 times b at first.
// Where b is not packed it is returned itself.
func (c *Codec) unpack(b []byte, packed bool, size uint64) ([]byte, error) {
	return c.unpackTo(nil, b, packed, size)
}

// unpackTo is unpack into dst's memory, which is empty, where that has room.
func (c *Codec) unpackTo(dst, b []byte, packed bool, size uint64) ([]byte, error) {
	if size > c.most {
		return nil, damaged("a part of %d bytes", size)
	}
	if !packed {
		if uint64(len(b)) != size {
			return nil, damaged("%d bytes where %d were said", len(b), size)
		}
		return b, nil
	}
	if room := min(size, 64*uint64(len(b))+1024); uint64(cap(dst)) < room {
		dst = make([]byte, 0, room)
	}
	out, err := c.dec.DecodeAll(b, dst)
	if err != nil {
		return nil, damaged("unpack: %v", err)
	}
	if uint64(len(out)) != size {
		return nil, damaged("unpacked to %d bytes, %d were said", len(out), size)
	}
	return out, nil
}

// appendPostings appends the ordinals of the events that have a value, ascending: as a
// list of ordinals or, for a common value where that is less than half as long, as counts
// by block. The number of events is in front in both forms, so that a summary needs no
// more than that.
func appendPostings(dst []byte, ords []uint32, b *builder) []byte {
	head, body := postingsOf(ords, len(b.ids), b.blocks)
	return append(binary.AppendUvarint(dst, head), body...)
}

// postingsOf returns the postings apart from what stands in front of them; events is how many events the group has.
func postingsOf(ords []uint32, events int, blks []Block) (head uint64, body []byte) {
	n := uint64(len(ords))
	if len(ords)*commonShare <= events || len(ords) < 64 {
		return n<<1 | postEvents, appendEvents(nil, ords)
	}
	// Ordinals and blocks both ascend: k goes through the ordinals once, and ords[from:k]
	// are those of block i.
	var pairs []byte
	blocks, prev, k := uint64(0), 0, 0
	for i := range blks {
		end := blks[i].First + blks[i].Events
		from := k
		for k < len(ords) && ords[k] < end {
			k++
		}
		if k > from {
			pairs = binary.AppendUvarint(pairs, uint64(i-prev))
			pairs = binary.AppendUvarint(pairs, uint64(k-from))
			prev = i
			blocks++
		}
	}
	// Blocks narrow less than ordinals, so they have to save at least half.
	if list := appendEvents(nil, ords); len(list) <= 2*len(pairs) {
		return n<<1 | postEvents, list
	}
	return n<<1 | postBlocks, append(binary.AppendUvarint(nil, blocks), pairs...)
}

// appendEvents appends the first ordinal, then the gap from each to the next.
func appendEvents(dst []byte, ords []uint32) []byte {
	prev := uint32(0)
	for _, o := range ords {
		dst = binary.AppendUvarint(dst, uint64(o-prev))
		prev = o
	}
	return dst
}

// names encodes the host names, which are sorted: of each, how many bytes it shares with
// the one before, and the rest. Its section has the form of a dictionary without postings.
func (c *Codec) names(hosts []string) []byte {
	var b []byte
	prev := ""
	for _, h := range hosts {
		same := 0
		for same < len(h) && same < len(prev) && h[same] == prev[same] {
			same++
		}
		b = binary.AppendUvarint(b, uint64(same))
		b = binary.AppendUvarint(b, uint64(len(h)-same))
		b = append(b, h[same:]...)
		prev = h
	}
	return c.dictBody(len(hosts), b, nil)
}

// dict is a dictionary section taken apart. Its keys are unpacked from the start, its
// postings when the first of them is asked for: most lookups find nothing. texts and posts
// may be parts of the group's bytes, so a dict is used no longer than these. It is for one
// goroutine.
type dict struct {
	n      int      // values
	lens   []uint32 // by value: where it ends in texts
	plens  []uint32 // by value: where its postings end in posts, once these are unpacked
	texts  []byte   // the values, sorted, one behind the other
	posts  []byte   // as stored while packed, else unpacked
	packed bool
	size   uint64 // of the postings unpacked, by the section's head
	codec  *Codec
	heads  []uint64 // by value, of a chunk of version 5: what stands in front of its postings elsewhere
	one    []byte   // the postings that were asked for last, with it
}

// splitDict reads a section's head. It returns the keys unpacked, and in d the number of
// values and the postings as stored; lens, plens and texts are openDict's to set.
func (c *Codec) splitDict(b []byte) (d dict, keys []byte, err error) {
	// head: [0] values, [1] unused (the byte of flags is there), [2] keys unpacked, [3] keys
	// stored, [4] postings unpacked, [5] postings stored. The stored parts fill the rest of b.
	head := [6]uint64{}
	flags := byte(0)
	for i := range head {
		if i == 1 {
			if len(b) == 0 {
				return d, nil, damaged("a dictionary of no length")
			}
			flags, b = b[0], b[1:]
			continue
		}
		v, k := binary.Uvarint(b)
		if k <= 0 {
			return d, nil, damaged("a dictionary's head")
		}
		head[i], b = v, b[k:]
	}
	if head[3] > uint64(len(b)) || head[5] != uint64(len(b))-head[3] {
		return d, nil, damaged("a dictionary's parts of %d and %d bytes in %d", head[3], head[5], len(b))
	}
	keys, err = c.unpack(b[:head[3]], flags&keysPacked != 0, head[2])
	if err != nil {
		return d, nil, err
	}
	if head[0] > uint64(len(keys)) && head[0] > 0 { // a value takes a byte of the keys at least
		return d, nil, damaged("%d values in %d bytes", head[0], len(keys))
	}
	return dict{n: int(head[0]), posts: b[head[3]:], packed: flags&postingsPacked != 0, size: head[4], codec: c}, keys, nil
}

// openDict takes a field's dictionary apart. Afterwards lens and plens ascend and end
// where the values and the postings do, so that span may index with them.
func (c *Codec) openDict(b []byte) (*dict, error) {
	d, keys, err := c.splitDict(b)
	if err != nil {
		return nil, err
	}
	// The keys begin with n lengths of values and n lengths of postings. Both become ends,
	// counted from the first of each kind (i%d.n is 0).
	ends := make([]uint32, 2*d.n)
	d.lens, d.plens = ends[:d.n], ends[d.n:]
	for i := range ends {
		v, k := binary.Uvarint(keys)
		if k <= 0 || v > maxDict {
			return nil, damaged("the length of value %d", i)
		}
		keys = keys[k:]
		if i%d.n > 0 {
			v += uint64(ends[i-1])
		}
		if v > maxDict {
			return nil, damaged("the lengths of values")
		}
		ends[i] = uint32(v)
	}
	d.texts = keys
	if d.n > 0 && (uint64(d.lens[d.n-1]) != uint64(len(d.texts)) || uint64(d.plens[d.n-1]) != d.size) {
		return nil, damaged("values of %d bytes in %d, postings of %d in %d", d.lens[d.n-1], len(d.texts), d.plens[d.n-1], d.size)
	}
	return &d, nil
}

// span returns where item i begins and ends, of items that lie one behind the other.
func span(ends []uint32, i int) (uint32, uint32) {
	if i == 0 {
		return 0, ends[0]
	}
	return ends[i-1], ends[i]
}

// value returns value i, a part of texts.
func (d *dict) value(i int) []byte {
	from, to := span(d.lens, i)
	return d.texts[from:to:to]
}

// find returns the index of a value, -1 when the dictionary has it not.
func (d *dict) find(v string) int {
	i := sort.Search(d.n, func(i int) bool { return string(d.value(i)) >= v })
	if i < d.n && string(d.value(i)) == v {
		return i
	}
	return -1
}

// matching calls fn with the index of each value that a condition accepts: by a lookup
// of exact values, by one search for a substring, else by a test of every value.
func (d *dict) matching(c *store.Condition, fn func(i int) error) error {
	if c.Exact != nil {
		for _, v := range c.Exact {
			if i := d.find(v); i >= 0 {
				if err := fn(i); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if len(c.Contains) > 0 {
		return d.containing([]byte(c.Contains), fn)
	}
	for i := range d.n {
		if c.Match(d.value(i)) {
			if err := fn(i); err != nil {
				return err
			}
		}
	}
	return nil
}

// containing calls fn with each value that contains sub. It searches all values as one
// text, and passes over a find that reaches across the end of a value.
func (d *dict) containing(sub []byte, fn func(i int) error) error {
	for at := 0; ; {
		k := bytes.Index(d.texts[at:], sub)
		if k < 0 {
			return nil
		}
		at += k
		i := sort.Search(d.n, func(i int) bool { return int(d.lens[i]) > at })
		if i == d.n {
			return nil
		}
		if at+len(sub) > int(d.lens[i]) {
			at++ // it reaches across the end of a value: no match
			continue
		}
		if err := fn(i); err != nil {
			return err
		}
		at = int(d.lens[i]) // each value is given once: go on behind it
	}
}

// postings returns the encoded postings of value i, valid until the next call; the first call unpacks those of all
// values.
func (d *dict) postings(i int) ([]byte, error) {
	if d.packed {
		p, err := d.codec.unpack(d.posts, true, d.size)
		if err != nil {
			return nil, err
		}
		d.posts, d.packed = p, false
	}
	from, to := span(d.plens, i)
	if uint64(to) > uint64(len(d.posts)) || from > to {
		return nil, damaged("postings %d to %d of %d", from, to, len(d.posts))
	}
	if d.heads != nil {
		d.one = append(binary.AppendUvarint(d.one[:0], d.heads[i]), d.posts[from:to]...)
		return d.one, nil
	}
	return d.posts[from:to], nil
}

// head returns what stands in front of the postings of value i, the number of its events << 1 and their kind.
func (d *dict) head(i int) (uint64, error) {
	if d.heads != nil {
		return d.heads[i], nil
	}
	p, err := d.postings(i)
	if err != nil {
		return 0, err
	}
	head, k := binary.Uvarint(p)
	if k <= 0 {
		return 0, damaged("postings without a head")
	}
	return head, nil
}
