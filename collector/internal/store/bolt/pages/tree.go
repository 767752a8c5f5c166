package pages

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// Tree is a file's tree of pages as it is at one moment; see File.ReadTree. Whatever is
// wrong with it is reported to Found and left out of what the methods give. It is for one
// goroutine, within fn of ReadTree.
type Tree struct {
	// Found is called with each damage: where in the file it lies, and what it is. fn of
	// ReadTree may set it.
	Found func(off int64, err error)
	// Incomplete is set when a page, or an element's place, cannot be read or believed: there may
	// be more in the file of which nothing is known.
	Incomplete bool

	file *File
	meta moment
	used []uint64 // a bit a page, set once it was reached; a page that is reached twice is damage
}

// Transaction returns the number of the transaction that wrote the tree.
func (t *Tree) Transaction() uint64 { return t.meta.tx }

// CheckMeta reports the meta pages that are not whole to Found.
func (t *Tree) CheckMeta() error {
	_, err := t.file.newest(t.Found)
	return err
}

// Damaged reports an error that wraps store.ErrDamaged to Found.
func (t *Tree) Damaged(off int64, format string, args ...any) {
	t.Found(off, fmt.Errorf("%w: "+format, append([]any{store.ErrDamaged}, args...)...))
}

// page is a page, or the head of one that was not read whole.
type page struct {
	id       uint64
	flags    uint16
	count    int
	overflow uint64
	off      int64  // in the file
	bytes    int64  // with its overflow
	b        []byte // from the page's head on; as much of it as was read
}

// page reads page id, with the pages that belong to it, and marks them as reached. want is
// the flags that it may have. With head, only the first of several pages is read. It
// returns nil, after a report to Found, when that is no such page or one of its pages was
// reached before.
func (t *Tree) page(id uint64, want uint16, head bool) *page {
	off := int64(id) * t.meta.pageSize
	if id < 2 || id >= t.meta.high {
		t.Incomplete = true
		t.Damaged(0, "a reference to page %d of %d", id, t.meta.high)
		return nil
	}
	p := &page{id: id, off: off, b: make([]byte, t.meta.pageSize)}
	if _, err := t.file.f.ReadAt(p.b, off); err != nil {
		t.Incomplete = true
		t.Damaged(off, "page %d: %v", id, err)
		return nil
	}
	p.flags, p.count = binary.LittleEndian.Uint16(p.b[8:]), int(binary.LittleEndian.Uint16(p.b[10:]))
	p.overflow = uint64(binary.LittleEndian.Uint32(p.b[12:]))
	if got := binary.LittleEndian.Uint64(p.b); got != id || p.flags&^want != 0 || p.flags == 0 || p.overflow >= t.meta.high-id {
		t.Incomplete = true
		t.Damaged(off, "head of page %d: it says page %d, flags %#x, %d more pages", id, got, p.flags, p.overflow)
		return nil
	}
	p.bytes = int64(p.overflow+1) * t.meta.pageSize
	for i := id; i <= id+p.overflow; i++ {
		if t.used[i/64]&(1<<(i%64)) != 0 {
			t.Incomplete = true
			t.Damaged(off, "page %d is part of two things: %d pages from page %d on overlap", i, p.overflow+1, id)
			return nil
		}
		t.used[i/64] |= 1 << (i % 64)
	}
	if p.overflow > 0 && !head {
		if p.bytes > maxPage {
			t.Incomplete = true
			t.Damaged(off, "page %d of %d bytes", id, p.bytes)
			return nil
		}
		whole := make([]byte, p.bytes)
		if _, err := t.file.f.ReadAt(whole, off); err != nil {
			t.Incomplete = true
			t.Damaged(off, "page %d: %v", id, err)
			return nil
		}
		p.b = whole
	}
	return p
}

// Elem is an element of a leaf: a key and a value, or a bucket of that name. Key and Value
// are the reader's own memory: they stay valid.
type Elem struct {
	Key, Value []byte
	Bucket     bool
	At         int64  // where the value lies in the file
	Page       uint64 // the number of its page
}

// Walk calls fn with every element of the root bucket, in order of keys.
func (t *Tree) Walk(fn func(e *Elem)) { t.walk(t.meta.root, fn) }

// walk calls fn with every element below a page, in order of keys.
func (t *Tree) walk(root uint64, fn func(e *Elem)) {
	var last []byte
	t.walkPage(root, nil, nil, 0, &last, fn)
}

// walkPage does walk's work for a page whose keys must lie from low up to, and without,
// high; nil is no bound. last is the key before, through all pages. depth guards against a
// tree that has a page of its own above.
func (t *Tree) walkPage(id uint64, low, high []byte, depth int, last *[]byte, fn func(e *Elem)) {
	if depth > maxDepth {
		t.Incomplete = true
		t.Damaged(int64(id)*t.meta.pageSize, "page %d: the tree is too deep", id)
		return
	}
	p := t.page(id, flagBranch|flagLeaf, false)
	if p == nil {
		return
	}
	if p.flags == flagLeaf {
		t.leaf(p.b, p.off, id, p.count, low, high, last, fn)
		return
	}
	if p.count == 0 || headSize+p.count*elemSize > len(p.b) {
		t.Incomplete = true
		t.Damaged(p.off, "page %d: a branch of %d", id, p.count)
		return
	}
	keys, ids := make([][]byte, p.count), make([]uint64, p.count)
	for i := range p.count {
		at := headSize + i*elemSize
		e := p.b[at:]
		pos, ksize := int64(binary.LittleEndian.Uint32(e)), int64(binary.LittleEndian.Uint32(e[4:]))
		if int64(at)+pos+ksize > int64(len(p.b)) {
			t.Incomplete = true
			t.Damaged(p.off+int64(at), "page %d: branch element %d lies outside", id, i)
			return
		}
		keys[i], ids[i] = p.b[int64(at)+pos:int64(at)+pos+ksize], binary.LittleEndian.Uint64(e[8:])
		if i > 0 && bytes.Compare(keys[i-1], keys[i]) >= 0 || low != nil && bytes.Compare(keys[i], low) < 0 || high != nil && bytes.Compare(keys[i], high) >= 0 {
			t.Damaged(p.off+int64(at), "page %d: branch element %d is out of order", id, i)
		}
	}
	for i := range p.count {
		next := high
		if i+1 < p.count {
			next = keys[i+1]
		}
		t.walkPage(ids[i], keys[i], next, depth+1, last, fn)
	}
}

// leaf calls fn with the elements of a leaf: b is its bytes from the head on, off its place
// in the file. An element that is out of order is reported and left out.
func (t *Tree) leaf(b []byte, off int64, id uint64, count int, low, high []byte, last *[]byte, fn func(e *Elem)) {
	for i := range count {
		at := headSize + i*elemSize
		e, ok := leafElem(b, at)
		if !ok {
			t.Incomplete = true
			t.Damaged(off+int64(at), "page %d: element %d lies outside", id, i)
			return
		}
		if *last != nil && bytes.Compare(*last, e.Key) >= 0 || low != nil && bytes.Compare(e.Key, low) < 0 || high != nil && bytes.Compare(e.Key, high) >= 0 {
			t.Damaged(off+int64(at), "page %d: element %d, %.40x, is out of order", id, i, e.Key)
			continue
		}
		*last = e.Key
		e.At += off
		e.Page = id
		fn(&e)
	}
}

// Start returns where the element's key, with its value behind it, lies in the file.
func (e *Elem) Start() int64 { return e.At - int64(len(e.Key)) }

// leafElem reads the element of a leaf that is described at at; At counts from b. It is
// false when key and value do not lie within b.
func leafElem(b []byte, at int) (e Elem, ok bool) {
	if at+elemSize > len(b) {
		return e, false
	}
	flags := binary.LittleEndian.Uint32(b[at:])
	pos, ksize, vsize := int64(binary.LittleEndian.Uint32(b[at+4:])), int64(binary.LittleEndian.Uint32(b[at+8:])), int64(binary.LittleEndian.Uint32(b[at+12:]))
	key := int64(at) + pos
	if flags > elemBucket || key+ksize+vsize > int64(len(b)) {
		return e, false
	}
	return Elem{Key: b[key : key+ksize], Value: b[key+ksize : key+ksize+vsize], Bucket: flags == elemBucket, At: key + ksize}, true
}

// WalkBucket calls fn with every element of the bucket e, in order of keys. The bucket's value has
// its root page, or, of a small one (root 0), the only leaf itself.
func (t *Tree) WalkBucket(e *Elem, fn func(e *Elem)) {
	if len(e.Value) < headSize {
		t.Incomplete = true
		t.Damaged(e.At, "page %d: bucket %.40q of %d bytes", e.Page, e.Key, len(e.Value))
		return
	}
	if root := binary.LittleEndian.Uint64(e.Value); root != 0 {
		t.walk(root, fn)
		return
	}
	inline := e.Value[headSize:]
	if len(inline) < headSize || binary.LittleEndian.Uint16(inline[8:]) != flagLeaf {
		t.Incomplete = true
		t.Damaged(e.At, "page %d: bucket %.40q is no leaf", e.Page, e.Key)
		return
	}
	var last []byte
	t.leaf(inline, e.At+headSize, e.Page, int(binary.LittleEndian.Uint16(inline[10:])), nil, nil, &last, fn)
}

// Run is where bytes lie in a file, and how many.
type Run struct{ Off, Size int64 }

// OnlyValue returns where the value of key name, the only one in the bucket e, lies in the file.
// It does not read the value, which may be large. It is false, after a report to Found,
// when that cannot be told.
func (t *Tree) OnlyValue(e *Elem, name []byte) (at Run, ok bool) {
	if len(e.Value) < headSize {
		t.Incomplete = true
		t.Damaged(e.At, "page %d: bucket %x of %d bytes", e.Page, e.Key, len(e.Value))
		return at, false
	}
	root := binary.LittleEndian.Uint64(e.Value)
	if root == 0 {
		t.WalkBucket(e, func(v *Elem) {
			if ok = bytes.Equal(v.Key, name) && !v.Bucket; ok {
				at = Run{v.At, int64(len(v.Value))}
			}
		})
		if !ok {
			t.Damaged(e.At, "page %d: group %x has no bytes", e.Page, e.Key)
		}
		return at, ok
	}
	p := t.page(root, flagLeaf, true)
	if p == nil {
		return at, false
	}
	b := p.b[headSize:]
	flags, pos := binary.LittleEndian.Uint32(b), int64(binary.LittleEndian.Uint32(b[4:]))
	ksize, vsize := int64(binary.LittleEndian.Uint32(b[8:])), int64(binary.LittleEndian.Uint32(b[12:]))
	key := headSize + pos
	if p.count != 1 || flags != 0 || ksize != int64(len(name)) || key+ksize > int64(len(p.b)) || key+ksize+vsize > p.bytes || !bytes.Equal(p.b[key:key+ksize], name) {
		t.Damaged(p.off, "page %d: it is not that of a group", root)
		return at, false
	}
	return Run{p.off + key + ksize, vsize}, true
}

// CheckFree compares the list of free pages with the pages that were reached: one that is
// both would be written over, one that is neither is lost. So everything must have been
// walked before, every bucket too.
func (t *Tree) CheckFree() {
	if t.meta.freelist == noFreelist {
		return
	}
	p := t.page(t.meta.freelist, flagFreelist, false)
	if p == nil {
		return
	}
	ids, n := p.b[headSize:], uint64(p.count)
	if p.count == 0xFFFF {
		n, ids = binary.LittleEndian.Uint64(ids), ids[8:]
	}
	if n > uint64(len(ids)/8) {
		t.Damaged(p.off, "page %d: %d free pages in %d bytes", p.id, n, len(ids))
		return
	}
	last := uint64(1)
	for i := range n {
		id := binary.LittleEndian.Uint64(ids[8*i:])
		if id <= last || id >= t.meta.high {
			t.Damaged(p.off, "page %d: free page %d of %d after %d", p.id, id, t.meta.high, last)
			return
		}
		last = id
		if t.used[id/64]&(1<<(id%64)) != 0 {
			t.Damaged(p.off, "page %d: page %d is in use and on the list of free ones: it would be written over", p.id, id)
			continue
		}
		t.used[id/64] |= 1 << (id % 64)
	}
	if t.Incomplete {
		return // what was not reached is in use perhaps
	}
	for id := uint64(2); id < t.meta.high; id++ {
		if t.used[id/64]&(1<<(id%64)) == 0 {
			t.Damaged(int64(id)*t.meta.pageSize, "page %d is neither in use nor free", id)
			return
		}
	}
}
