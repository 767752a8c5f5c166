package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// rawFile reads a bbolt file page by page: without bbolt's lock, so beside a
// server that writes it, and without trusting a byte, so that damage is found
// where it lies.
//
// Reading beside a writer is sound because bbolt never writes over a page that
// its newest meta page reaches: those pages become free only with the commit that
// follows, and are used again only by the one after, whose meta page comes last.
// So what was read under a meta page that is still the newest afterwards belongs
// together. The bytes of a group stay where they are for as long as it exists, so
// they may be read later, when the meta page has moved on.
type rawFile struct {
	path     string
	f        *os.File
	size     int64
	pageSize int64
	meta     rawMeta
	used     []uint64 // a bit a page that was reached
	cut      bool     // a page could not be read: more are unreachable than are lost
	note     func(off int64, err error)
}

// rawMeta is what a meta page says.
type rawMeta struct{ root, freelist, high, tx uint64 }

const (
	rawMagic      = 0xED0CDAED
	rawVersion    = 2
	rawPageHead   = 16
	rawElem       = 16
	rawMetaSize   = 64
	rawNoFreelist = ^uint64(0)
	rawDepth      = 32 // deeper than any tree of these sizes
	rawMaxPage    = 256 << 20

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagMeta     = 0x04
	flagFreelist = 0x10

	elemBucket = 1
)

// errBusy is returned for a file that is written faster than it can be looked at.
var errBusy = errors.New("the file is written faster than it can be read: try again when there is less load")

// openRaw opens a file; nothing of it is looked at yet.
func openRaw(path string) (*rawFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &rawFile{path: path, f: f, note: func(int64, error) {}}, nil
}

func (r *rawFile) Close() error { return r.f.Close() }

// attempt runs fn on the file as it is at one moment; fn runs again when the file
// was written meanwhile, and has to begin from nothing.
func (r *rawFile) attempt(fn func() error) error {
	for n := range 200 {
		if n > 0 {
			time.Sleep(time.Duration(min(n, 20)) * time.Millisecond)
		}
		if err := r.loadMeta(nil); err != nil {
			if n < 5 && errors.Is(err, store.ErrDamaged) {
				continue // perhaps a meta page that was just being written
			}
			return err
		}
		r.used, r.cut = make([]uint64, (r.meta.high+63)/64), false
		at := r.meta
		err := fn()
		if merr := r.loadMeta(nil); merr == nil && r.meta == at {
			return err
		}
	}
	return fmt.Errorf("%s: %w", r.path, errBusy)
}

// loadMeta finds the newest meta page that is whole. bad, when not nil, is told
// of one that is not.
func (r *rawFile) loadMeta(bad func(off int64, err error)) error {
	info, err := r.f.Stat()
	if err != nil {
		return err
	}
	r.size = info.Size()
	if r.size == 0 {
		return fmt.Errorf("%w: an empty file", store.ErrDamaged)
	}
	size := int64(os.Getpagesize())
	first, err0 := r.metaAt(0, 0)
	if err0 == nil {
		size = first.size
	}
	second, err1 := r.metaAt(size, 1)
	for try := int64(1 << 10); err0 != nil && err1 != nil && try <= 64<<10; try <<= 1 {
		if second, err1 = r.metaAt(try, 1); err1 == nil {
			size = try
		}
	}
	if err0 != nil && err1 != nil {
		return fmt.Errorf("%w: neither meta page is whole: %w", store.ErrDamaged, err0)
	}
	r.pageSize = size
	switch {
	case err0 != nil:
		r.meta = second.rawMeta
	case err1 != nil || first.tx > second.tx:
		r.meta = first.rawMeta
	default:
		r.meta = second.rawMeta
	}
	if bad != nil {
		for i, err := range []error{err0, err1} {
			if err != nil {
				bad(int64(i)*size, fmt.Errorf("%w: the file is read as it was one batch earlier, if this was the newer one", err))
			}
		}
	}
	if r.meta.high*uint64(size) > uint64(r.size) || r.meta.high > 1<<40 {
		return fmt.Errorf("%w: %d bytes, its pages need %d: it was cut short", store.ErrDamaged, r.size, r.meta.high*uint64(size))
	}
	return nil
}

type sizedMeta struct {
	rawMeta
	size int64
}

// metaAt reads a meta page and checks it.
func (r *rawFile) metaAt(off int64, id uint64) (m sizedMeta, err error) {
	var b [rawPageHead + rawMetaSize]byte
	if _, err := r.f.ReadAt(b[:], off); err != nil {
		if errors.Is(err, io.EOF) {
			return m, fmt.Errorf("%w: meta page %d is not there", store.ErrDamaged, id)
		}
		return m, err
	}
	p := b[rawPageHead:]
	u32, u64 := binary.LittleEndian.Uint32, binary.LittleEndian.Uint64
	if u32(p) != rawMagic {
		return m, fmt.Errorf("%w: no meta page %d", store.ErrDamaged, id)
	}
	h := fnv.New64a()
	_, _ = h.Write(p[:56]) // never fails
	switch {
	case h.Sum64() != u64(p[56:]):
		return m, fmt.Errorf("%w: checksum of meta page %d", store.ErrDamaged, id)
	case u32(p[4:]) != rawVersion:
		return m, fmt.Errorf("%w: meta page version %d", store.ErrVersion, u32(p[4:]))
	case u64(b[:]) != id || binary.LittleEndian.Uint16(b[8:]) != flagMeta:
		return m, fmt.Errorf("%w: head of meta page %d", store.ErrDamaged, id)
	}
	m.size = int64(u32(p[8:]))
	m.rawMeta = rawMeta{root: u64(p[16:]), freelist: u64(p[32:]), high: u64(p[40:]), tx: u64(p[48:])}
	if m.size < 512 || m.size > 64<<10 || m.root < 2 || m.root >= m.high {
		return m, fmt.Errorf("%w: meta page %d: root %d of %d pages of %d bytes", store.ErrDamaged, id, m.root, m.high, m.size)
	}
	return m, nil
}

// rawPage is a page, or of one that is not read whole its head.
type rawPage struct {
	id       uint64
	flags    uint16
	count    int
	overflow uint64
	off      int64  // in the file
	bytes    int64  // with its overflow
	b        []byte // from the page's head on; as much of it as was read
}

func (r *rawFile) damaged(off int64, format string, args ...any) {
	r.note(off, fmt.Errorf("%w: "+format, append([]any{store.ErrDamaged}, args...)...))
}

// page reads a page and marks it as reached; with head only the first page of
// it. nil, and said, when it cannot be one.
func (r *rawFile) page(id uint64, want uint16, head bool) *rawPage {
	off := int64(id) * r.pageSize
	if id < 2 || id >= r.meta.high {
		r.cut = true
		r.damaged(0, "a reference to page %d of %d", id, r.meta.high)
		return nil
	}
	p := &rawPage{id: id, off: off, b: make([]byte, r.pageSize)}
	if _, err := r.f.ReadAt(p.b, off); err != nil {
		r.cut = true
		r.damaged(off, "page %d: %v", id, err)
		return nil
	}
	p.flags, p.count = binary.LittleEndian.Uint16(p.b[8:]), int(binary.LittleEndian.Uint16(p.b[10:]))
	p.overflow = uint64(binary.LittleEndian.Uint32(p.b[12:]))
	if got := binary.LittleEndian.Uint64(p.b); got != id || p.flags&^want != 0 || p.flags == 0 || p.overflow >= r.meta.high-id {
		r.cut = true
		r.damaged(off, "head of page %d: it says page %d, flags %#x, %d more pages", id, got, p.flags, p.overflow)
		return nil
	}
	p.bytes = int64(p.overflow+1) * r.pageSize
	for i := id; i <= id+p.overflow; i++ {
		if r.used[i/64]&(1<<(i%64)) != 0 {
			r.cut = true
			r.damaged(off, "page %d is part of two things: %d pages from page %d on overlap", i, p.overflow+1, id)
			return nil
		}
		r.used[i/64] |= 1 << (i % 64)
	}
	if p.overflow > 0 && !head {
		if p.bytes > rawMaxPage {
			r.cut = true
			r.damaged(off, "page %d of %d bytes", id, p.bytes)
			return nil
		}
		whole := make([]byte, p.bytes)
		if _, err := r.f.ReadAt(whole, off); err != nil {
			r.cut = true
			r.damaged(off, "page %d: %v", id, err)
			return nil
		}
		p.b = whole
	}
	return p
}

// elem is an element of a leaf.
type elem struct {
	key, value []byte
	bucket     bool
	at         int64 // where the value lies in the file
	page       uint64
}

// walk gives fn all elements below a page in order. Whatever is wrong is noted
// and left out.
func (r *rawFile) walk(root uint64, fn func(e *elem)) {
	var last []byte
	r.walkPage(root, nil, nil, 0, &last, fn)
}

// walkPage is walk for the keys from low up to high (nil: no end).
func (r *rawFile) walkPage(id uint64, low, high []byte, depth int, last *[]byte, fn func(e *elem)) {
	if depth > rawDepth {
		r.cut = true
		r.damaged(int64(id)*r.pageSize, "page %d: the tree is too deep", id)
		return
	}
	p := r.page(id, flagBranch|flagLeaf, false)
	if p == nil {
		return
	}
	if p.flags == flagLeaf {
		r.leaf(p.b, p.off, id, p.count, low, high, last, fn)
		return
	}
	if p.count == 0 || rawPageHead+p.count*rawElem > len(p.b) {
		r.cut = true
		r.damaged(p.off, "page %d: a branch of %d", id, p.count)
		return
	}
	keys, ids := make([][]byte, p.count), make([]uint64, p.count)
	for i := range p.count {
		at := rawPageHead + i*rawElem
		e := p.b[at:]
		pos, ksize := int64(binary.LittleEndian.Uint32(e)), int64(binary.LittleEndian.Uint32(e[4:]))
		if int64(at)+pos+ksize > int64(len(p.b)) {
			r.cut = true
			r.damaged(p.off+int64(at), "page %d: branch element %d lies outside", id, i)
			return
		}
		keys[i], ids[i] = p.b[int64(at)+pos:int64(at)+pos+ksize], binary.LittleEndian.Uint64(e[8:])
		if i > 0 && bytes.Compare(keys[i-1], keys[i]) >= 0 || low != nil && bytes.Compare(keys[i], low) < 0 || high != nil && bytes.Compare(keys[i], high) >= 0 {
			r.damaged(p.off+int64(at), "page %d: branch element %d is out of order", id, i)
		}
	}
	for i := range p.count {
		next := high
		if i+1 < p.count {
			next = keys[i+1]
		}
		r.walkPage(ids[i], keys[i], next, depth+1, last, fn)
	}
}

// leaf gives the elements of a leaf, which begins at b and lies at off in the file.
func (r *rawFile) leaf(b []byte, off int64, id uint64, count int, low, high []byte, last *[]byte, fn func(e *elem)) {
	for i := range count {
		at := rawPageHead + i*rawElem
		e, ok := leafElem(b, at)
		if !ok {
			r.cut = true
			r.damaged(off+int64(at), "page %d: element %d lies outside", id, i)
			return
		}
		if *last != nil && bytes.Compare(*last, e.key) >= 0 || low != nil && bytes.Compare(e.key, low) < 0 || high != nil && bytes.Compare(e.key, high) >= 0 {
			r.damaged(off+int64(at), "page %d: element %d, %.40x, is out of order", id, i, e.key)
			continue
		}
		*last = e.key
		e.at += off
		e.page = id
		fn(&e)
	}
}

// from is where the element's key and value begin.
func (e *elem) from() int64 { return e.at - int64(len(e.key)) }

func leafElem(b []byte, at int) (e elem, ok bool) {
	if at+rawElem > len(b) {
		return e, false
	}
	flags := binary.LittleEndian.Uint32(b[at:])
	pos, ksize, vsize := int64(binary.LittleEndian.Uint32(b[at+4:])), int64(binary.LittleEndian.Uint32(b[at+8:])), int64(binary.LittleEndian.Uint32(b[at+12:]))
	key := int64(at) + pos
	if flags > elemBucket || key+ksize+vsize > int64(len(b)) {
		return e, false
	}
	return elem{key: b[key : key+ksize], value: b[key+ksize : key+ksize+vsize], bucket: flags == elemBucket, at: key + ksize}, true
}

// sub walks the bucket that an element is, within its page or on others.
func (r *rawFile) sub(e *elem, fn func(e *elem)) {
	if len(e.value) < rawPageHead {
		r.cut = true
		r.damaged(e.at, "page %d: bucket %.40q of %d bytes", e.page, e.key, len(e.value))
		return
	}
	if root := binary.LittleEndian.Uint64(e.value); root != 0 {
		r.walk(root, fn)
		return
	}
	inline := e.value[rawPageHead:]
	if len(inline) < rawPageHead || binary.LittleEndian.Uint16(inline[8:]) != flagLeaf {
		r.cut = true
		r.damaged(e.at, "page %d: bucket %.40q is no leaf", e.page, e.key)
		return
	}
	var last []byte
	r.leaf(inline, e.at+rawPageHead, e.page, int(binary.LittleEndian.Uint16(inline[10:])), nil, nil, &last, fn)
}

// place is a run of bytes of the file.
type place struct{ off, size int64 }

// blob finds the only value of a group's bucket without reading it.
func (r *rawFile) blob(e *elem) (at place, ok bool) {
	if len(e.value) < rawPageHead {
		r.cut = true
		r.damaged(e.at, "page %d: bucket %x of %d bytes", e.page, e.key, len(e.value))
		return at, false
	}
	root := binary.LittleEndian.Uint64(e.value)
	if root == 0 {
		r.sub(e, func(v *elem) {
			if ok = bytes.Equal(v.key, keyBlob) && !v.bucket; ok {
				at = place{v.at, int64(len(v.value))}
			}
		})
		if !ok {
			r.damaged(e.at, "page %d: group %x has no bytes", e.page, e.key)
		}
		return at, ok
	}
	p := r.page(root, flagLeaf, true)
	if p == nil {
		return at, false
	}
	b := p.b[rawPageHead:]
	flags, pos := binary.LittleEndian.Uint32(b), int64(binary.LittleEndian.Uint32(b[4:]))
	ksize, vsize := int64(binary.LittleEndian.Uint32(b[8:])), int64(binary.LittleEndian.Uint32(b[12:]))
	key := rawPageHead + pos
	if p.count != 1 || flags != 0 || ksize != int64(len(keyBlob)) || key+ksize > int64(len(p.b)) || key+ksize+vsize > p.bytes || !bytes.Equal(p.b[key:key+ksize], keyBlob) {
		r.damaged(p.off, "page %d: it is not that of a group", root)
		return at, false
	}
	return place{p.off + key + ksize, vsize}, true
}

// free checks the list of free pages against those that were reached: a page that
// is both would be written over.
func (r *rawFile) free() {
	if r.meta.freelist == rawNoFreelist {
		return
	}
	p := r.page(r.meta.freelist, flagFreelist, false)
	if p == nil {
		return
	}
	ids, n := p.b[rawPageHead:], uint64(p.count)
	if p.count == 0xFFFF {
		n, ids = binary.LittleEndian.Uint64(ids), ids[8:]
	}
	if n > uint64(len(ids)/8) {
		r.damaged(p.off, "page %d: %d free pages in %d bytes", p.id, n, len(ids))
		return
	}
	last := uint64(1)
	for i := range n {
		id := binary.LittleEndian.Uint64(ids[8*i:])
		if id <= last || id >= r.meta.high {
			r.damaged(p.off, "page %d: free page %d of %d after %d", p.id, id, r.meta.high, last)
			return
		}
		last = id
		if r.used[id/64]&(1<<(id%64)) != 0 {
			r.damaged(p.off, "page %d: page %d is in use and on the list of free ones: it would be written over", p.id, id)
			continue
		}
		r.used[id/64] |= 1 << (id % 64)
	}
	if r.cut {
		return // what was not reached is in use perhaps
	}
	for id := uint64(2); id < r.meta.high; id++ {
		if r.used[id/64]&(1<<(id%64)) == 0 {
			r.damaged(int64(id)*r.pageSize, "page %d is neither in use nor free", id)
			return
		}
	}
}
