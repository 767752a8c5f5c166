package seal

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"slices"
	"strings"
)

// A log of years has a million leaves, and who looks for those of a kind or a time reads a row of them at once, checks no more of each than its checksum, and is told
// of rows that were read before what they have, so that it can pass over them. What is remembered of a row is not on the disk.

// rowLeaves is how many leaves are a row: so many are read before who appends may go on.
const rowLeaves = 256

// rowBytes is how much of them is read at once; leaves of more are read one by one.
const rowBytes = 8 << 20

// Row is what is remembered of leaves that follow one another.
type Row struct {
	unknown      bool // some could not be read, or name no day: it may have anything
	kinds        uint32
	minMs, maxMs int64  // of batches' events
	first, last  string // the days of their parts
}

// Has reports whether the row may have leaves of a kind.
func (r *Row) Has(k Kind) bool { return r.unknown || r.kinds&(1<<k) != 0 }

// HasTime reports whether the row may have batches with events between two times, in ms since 1970.
func (r *Row) HasTime(from, to int64) bool {
	return r.unknown || r.kinds&(1<<Batch) != 0 && r.minMs <= to && r.maxMs >= from
}

// HasDay reports whether the row may have leaves of parts of days between two, each as YYYY-MM-DD.
func (r *Row) HasDay(from, to string) bool {
	return r.unknown || r.first != "" && r.first <= to && r.last >= from
}

// add takes in a leaf.
func (r *Row) add(l *Leaf) {
	r.kinds |= 1 << l.Kind
	if l.Kind == Batch {
		r.minMs, r.maxMs = min(r.minMs, l.MinMs), max(r.maxMs, l.MaxMs)
	}
	if l.Part == "" {
		return
	}
	day, _, _ := strings.Cut(strings.TrimPrefix(l.Part, ClusterPart), ".")
	if len(day) != len("2006-01-02") {
		r.unknown = true
		return
	}
	if r.first == "" || day < r.first {
		r.first = day
	}
	r.last = max(r.last, day)
}

// Walk calls fn with the leaves from one on and before another one, in order, until fn returns false, and returns which comes next. Rows of which want says no are passed
// over, as far as they were read before. The leaf has what stands before its hosts; ParseLeaf of text has all. Both are valid until fn returns. Those
// that cannot be read are left out.
func (t *Tree) Walk(ctx context.Context, from, to int64, want func(r *Row) bool, fn func(i int64, l *Leaf, text []byte) bool) (next int64, err error) {
	var row rowReader
	for at := from; at < to; {
		if err := ctx.Err(); err != nil {
			return at, err
		}
		k := at / rowLeaves
		end := min((k+1)*rowLeaves, to)
		if r := t.row(k); r != nil && !want(r) {
			at = end
			continue
		}
		texts, err := row.read(t, at, end)
		if err != nil {
			return at, err
		}
		if len(texts) == rowLeaves && t.row(k) == nil && !want(t.remember(k, texts)) {
			at = end
			continue
		}
		var l Leaf
		for _, text := range texts {
			if err := ctx.Err(); err != nil {
				return at, err
			}
			if text != nil && l.head(text) == nil && !fn(at, &l, text) {
				return at + 1, nil
			}
			at++
		}
	}
	return max(from, to), nil
}

func (t *Tree) row(k int64) *Row {
	t.walking.Lock()
	defer t.walking.Unlock()
	return t.rows[k]
}

// remember notes what a whole row has.
func (t *Tree) remember(k int64, texts [][]byte) *Row {
	r := &Row{minMs: math.MaxInt64, maxMs: math.MinInt64}
	var l Leaf
	for _, text := range texts {
		if text == nil || l.head(text) != nil {
			r.unknown = true
			continue
		}
		r.add(&l)
	}
	t.walking.Lock()
	defer t.walking.Unlock()
	if t.rows == nil {
		t.rows = map[int64]*Row{}
	}
	t.rows[k] = r
	return r
}

// rowReader has room for a row, which is used again.
type rowReader struct {
	index, b []byte
	list     [][]byte
}

// read returns leaves as they were encoded, valid until the next call; nil stands for one that is damaged, or whose text is lost.
func (x *rowReader) read(t *Tree, from, to int64) (list [][]byte, err error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	to = min(to, t.size)
	if from >= to {
		return nil, nil
	}
	x.index = slices.Grow(x.index[:0], int(indexBytes*(to-from)))[:indexBytes*(to-from)]
	if _, err := t.index.ReadAt(x.index, headBytes+from*indexBytes); err != nil {
		return nil, err
	}
	end := t.end
	if to < t.size {
		if end, _, err = t.entry(to); err != nil {
			return nil, err
		}
	}
	offset := func(i int64) int64 { return int64(binary.LittleEndian.Uint64(x.index[i*indexBytes:])) } //nolint:gosec // a negative one is no offset
	begin := offset(0)
	if begin < headBytes || end < begin || end > t.end || end-begin > rowBytes {
		return t.textsOneByOne(from, to)
	}
	x.b = slices.Grow(x.b[:0], int(end-begin))[:end-begin]
	if _, err := t.leaves.ReadAt(x.b, begin); err != nil {
		return nil, err
	}
	x.list = x.list[:0]
	for i := range to - from {
		var leaf []byte
		if off := offset(i) - begin; off >= 0 && off <= int64(len(x.b)) {
			leaf = leafIn(x.b[off:])
		}
		x.list = append(x.list, leaf)
	}
	return x.list, nil
}

func (t *Tree) textsOneByOne(from, to int64) (list [][]byte, err error) {
	for i := from; i < to; i++ {
		text, err := t.text(i)
		if err != nil && !errors.Is(err, ErrDamaged) {
			return nil, err
		}
		if err != nil {
			text = nil
		}
		list = append(list, text)
	}
	return list, nil
}

// leafIn returns the leaf whose record b begins with; nil where it is damaged, or has no text.
func leafIn(b []byte) []byte {
	if len(b) < recordHead {
		return nil
	}
	n := int64(binary.LittleEndian.Uint32(b))
	if n == 0 || n > int64(len(b)-recordHead) {
		return nil
	}
	leaf := b[recordHead : recordHead+n : recordHead+n]
	if binary.LittleEndian.Uint32(b[4:]) != crc32.Update(crc32.Checksum(b[:4], castagnoli), castagnoli, leaf) {
		return nil
	}
	return leaf
}

// Walk is the tree's; ErrNoLog.
func (l *Log) Walk(ctx context.Context, from, to int64, want func(r *Row) bool, fn func(i int64, l *Leaf, text []byte) bool) (next int64, err error) {
	if l.cfg.Tree == nil {
		return from, ErrNoLog
	}
	return l.cfg.Tree.Walk(ctx, from, to, want, fn)
}
