package pages

import (
	"encoding/binary"
	"errors"
)

// Unused returns where the pages lie that neither of the file's states has: the one that counts, and the one before, which counts
// where the newest meta page is lost. Nobody may write the file meanwhile. An error says that something of it cannot be
// read or believed: then nothing is known to be unused.
func (f *File) Unused() (list []Run, err error) {
	now, err := f.newest(nil)
	if err != nil {
		return nil, err
	}
	var used []uint64
	for id := range uint64(2) {
		m, err := f.metaAt(int64(id)*now.pageSize, id)
		if err != nil {
			return nil, err
		}
		m.high = now.high // of both, so that the bits are the same
		t := &Tree{file: f, meta: m, used: make([]uint64, (now.high+63)/64)}
		t.Found = func(_ int64, bad error) { err = errors.Join(err, bad) }
		t.mark(m.root, 0)
		if m.freelist != noFreelist {
			t.page(m.freelist, flagFreelist, true)
		}
		if err != nil {
			return nil, err
		}
		if used == nil {
			used = t.used
			continue
		}
		for i := range used {
			used[i] |= t.used[i]
		}
	}
	for id := uint64(2); id < now.high; id++ {
		if used[id/64]&(1<<(id%64)) != 0 {
			continue
		}
		off := int64(id) * now.pageSize
		if n := len(list); n > 0 && list[n-1].Off+list[n-1].Size == off {
			list[n-1].Size += now.pageSize
		} else {
			list = append(list, Run{off, now.pageSize})
		}
	}
	return list, nil
}

// mark marks all pages below one, buckets and theirs too, as reached. Of a large value the pages are not read.
func (t *Tree) mark(id uint64, depth int) {
	if depth > maxDepth {
		t.Damaged(int64(id)*t.meta.pageSize, "page %d: the tree is too deep", id)
		return
	}
	p := t.page(id, flagBranch|flagLeaf, true)
	if p == nil {
		return
	}
	if p.overflow > 0 && (p.count != 1 || p.flags != flagLeaf) {
		b := make([]byte, min(p.bytes, maxPage))
		if _, err := t.file.f.ReadAt(b, p.off); err != nil {
			t.Damaged(p.off, "page %d: %v", id, err)
			return
		}
		p.b = b
	}
	for i := range p.count {
		at := headSize + i*elemSize
		if at+elemSize > len(p.b) {
			t.Damaged(p.off+int64(at), "page %d: element %d lies outside", id, i)
			return
		}
		if p.flags == flagBranch {
			t.mark(binary.LittleEndian.Uint64(p.b[at+8:]), depth+1)
			continue
		}
		if binary.LittleEndian.Uint32(p.b[at:]) != elemBucket {
			continue
		}
		e, ok := leafElem(p.b, at)
		if !ok || len(e.Value) < headSize {
			t.Damaged(p.off+int64(at), "page %d: element %d is no bucket", id, i)
			return
		}
		if root := binary.LittleEndian.Uint64(e.Value); root != 0 {
			t.mark(root, depth+1)
		} // one that lies in its element as a whole has values only: none of ours has a bucket within
	}
}
