package seal

import (
	"encoding/binary"
	"errors"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// indexEntry is a leaf's entry in the index.
func indexEntry(off int64, at place) []byte {
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, indexBytes), uint64(off))
	return binary.LittleEndian.AppendUint64(b, uint64(at))
}

// damagedLog reads what can be read of a log whose files do not agree. Leaves are asked for in order.
type damagedLog struct {
	leaves, hashes, index fsys.File // nil: not there, or another store's
	leavesEnd, hashesEnd  int64
	entries               int64
	id                    seglog.ID
	next                  int64 // where the next leaf begins; 0: not known
}

// readDamaged opens the files that there are.
func readDamaged(o Options) *damagedLog {
	d := &damagedLog{next: headBytes}
	open := func(name, magic string) (fsys.File, int64) {
		f, err := openFile(o.FS, filepath.Join(o.dir(), name), false)
		if err != nil {
			return nil, 0
		}
		// A head that cannot be read says nothing about what is behind it; another store's does.
		id, err := readHead(f, magic)
		if err == nil && id != o.ID && o.ID != (seglog.ID{}) {
			_ = f.Close() // only read
			return nil, 0
		}
		if err == nil {
			d.id = id
		}
		n, err := f.Size()
		if err != nil {
			n = 0
		}
		return f, n
	}
	var n int64
	d.leaves, d.leavesEnd = open(leavesName, leavesMagic)
	d.hashes, d.hashesEnd = open(hashesName, hashesMagic)
	d.index, n = open(indexName, indexMagic)
	d.entries = max(n-headBytes, 0) / indexBytes
	return d
}

// leafOf returns leaf i: its text, or else its hash; neither where nothing is known of it. last is the
// place of the leaf before.
func (d *damagedLog) leafOf(i int64, last place, find func(uint64, *tlog.Hash) []byte) (text []byte, hash *tlog.Hash) {
	off, at := d.next, place(0)
	known := false
	if i < d.entries {
		var b [indexBytes]byte
		if _, err := d.index.ReadAt(b[:], headBytes+i*indexBytes); err == nil {
			at, known = place(binary.LittleEndian.Uint64(b[8:])), true
			if off == 0 { // the leaf before could not be read
				off = int64(binary.LittleEndian.Uint64(b[:]))
			}
		}
	}
	hash = d.hashOf(i)
	d.next = 0
	if d.leaves != nil && off > 0 {
		if leaf, next, err := readRecord(d.leaves, off, d.leavesEnd); err == nil {
			d.next = next
			if _, err := ParseLeaf(leaf); err == nil {
				return leaf, nil
			}
		}
	}
	// The place may have it still: under the number that the index says, or the next one.
	batch := last.batch() + 1
	if known {
		batch = at.batch()
	}
	if leaf := find(batch, hash); leaf != nil && (hash == nil && known && at > last || hash != nil && tlog.RecordHash(leaf) == *hash) {
		return leaf, nil
	}
	return nil, hash
}

// hashOf reads the hash of leaf i; nil where it is not there.
func (d *damagedLog) hashOf(i int64) *tlog.Hash {
	off := headBytes + tlog.HashSize*tlog.StoredHashIndex(0, i)
	if d.hashes == nil || off+tlog.HashSize > d.hashesEnd {
		return nil
	}
	var h tlog.Hash
	if _, err := d.hashes.ReadAt(h[:], off); err != nil || h == (tlog.Hash{}) {
		return nil
	}
	return &h
}

// Close closes the files.
func (d *damagedLog) Close() error {
	var errs []error
	for _, f := range []fsys.File{d.leaves, d.hashes, d.index} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}
