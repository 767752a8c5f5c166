// Package pages reads bbolt files page by page: without bbolt's lock, so beside a
// server that writes them, and without trusting a byte, so that damage is found where it
// lies. It knows bbolt's format and nothing of what a store keeps in it. Packages below
// store/bolt may import it; it imports store for its errors.
package pages

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// File is an open bbolt file.
type File struct {
	path string
	f    *os.File
}

// Open opens a file; nothing of it is read yet.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &File{path: path, f: f}, nil
}

// Close closes the file.
func (f *File) Close() error { return f.f.Close() }

// ReadAt reads bytes of the file, such as those of a Run.
func (f *File) ReadAt(b []byte, off int64) (int, error) { return f.f.ReadAt(b, off) }

// Stat is what the filesystem says of the file.
func (f *File) Stat() (os.FileInfo, error) { return f.f.Stat() }

// ErrBusy is returned for a file that is written faster than it can be read.
var ErrBusy = errors.New("the file is written faster than it can be read: try again when there is less load")

// Attempt runs fn on the file's tree as it is at one moment. fn runs again when the
// file was written meanwhile, and has to begin from nothing each time.
//
// Reading beside a writer is sound because bbolt never writes over a page that
// its newest meta page reaches: those pages become free only with the commit that
// follows, and are used again only by the one after, whose meta page comes last.
// So what was read under a meta page that is still the newest afterwards belongs
// together. The bytes of a group stay where they are for as long as it exists, so
// they may be read later, when the meta page has moved on.
func (f *File) Attempt(fn func(t *Tree) error) error {
	for n := range 200 {
		if n > 0 {
			time.Sleep(time.Duration(min(n, 20)) * time.Millisecond)
		}
		m, err := f.newest(nil)
		if err != nil {
			if n < 5 && errors.Is(err, store.ErrDamaged) {
				continue // perhaps a meta page that was just being written
			}
			return err
		}
		t := &Tree{Found: func(int64, error) {}, file: f, meta: m, used: make([]uint64, (m.high+63)/64)}
		err = fn(t)
		if now, nerr := f.newest(nil); nerr == nil && now.meta == m.meta {
			return err
		}
	}
	return fmt.Errorf("%s: %w", f.path, ErrBusy)
}

// Transaction is that of the newest meta page: another one is another content.
func (f *File) Transaction() (uint64, error) {
	m, err := f.newest(nil)
	return m.tx, err
}

// meta is what a meta page says.
type meta struct{ root, freelist, high, tx uint64 }

// moment is the newest meta page of a file.
type moment struct {
	meta
	pageSize int64
}

const (
	magic      = 0xED0CDAED
	version    = 2
	headSize   = 16
	elemSize   = 16
	metaSize   = 64
	noFreelist = ^uint64(0)
	maxDepth   = 32 // deeper than any tree of these sizes
	maxPage    = 256 << 20

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagMeta     = 0x04
	flagFreelist = 0x10

	elemBucket = 1
)

// newest is the newest meta page that is whole. bad, when not nil, is told of one that is
// not.
func (f *File) newest(bad func(off int64, err error)) (m moment, err error) {
	info, err := f.f.Stat()
	if err != nil {
		return m, err
	}
	if info.Size() == 0 {
		return m, fmt.Errorf("%w: an empty file", store.ErrDamaged)
	}
	size := int64(os.Getpagesize())
	first, err0 := f.metaAt(0, 0)
	if err0 == nil {
		size = first.pageSize
	}
	second, err1 := f.metaAt(size, 1)
	for try := int64(1 << 10); err0 != nil && err1 != nil && try <= 64<<10; try <<= 1 {
		if second, err1 = f.metaAt(try, 1); err1 == nil {
			size = try
		}
	}
	switch {
	case err0 != nil && err1 != nil:
		return m, fmt.Errorf("%w: neither meta page is whole: %w", store.ErrDamaged, err0)
	case err0 != nil:
		m = second
	case err1 != nil || first.tx > second.tx:
		m = first
	default:
		m = second
	}
	if bad != nil {
		for i, err := range []error{err0, err1} {
			if err != nil {
				bad(int64(i)*size, fmt.Errorf("%w: the file is read as it was one batch earlier, if this was the newer one", err))
			}
		}
	}
	m.pageSize = size
	if m.high*uint64(size) > uint64(info.Size()) || m.high > 1<<40 {
		return m, fmt.Errorf("%w: %d bytes, its pages need %d: it was cut short", store.ErrDamaged, info.Size(), m.high*uint64(size))
	}
	return m, nil
}

// metaAt reads a meta page and checks it.
func (f *File) metaAt(off int64, id uint64) (m moment, err error) {
	var b [headSize + metaSize]byte
	if _, err := f.f.ReadAt(b[:], off); err != nil {
		if errors.Is(err, io.EOF) {
			return m, fmt.Errorf("%w: meta page %d is not there", store.ErrDamaged, id)
		}
		return m, err
	}
	p := b[headSize:]
	u32, u64 := binary.LittleEndian.Uint32, binary.LittleEndian.Uint64
	if u32(p) != magic {
		return m, fmt.Errorf("%w: no meta page %d", store.ErrDamaged, id)
	}
	h := fnv.New64a()
	_, _ = h.Write(p[:56]) // never fails
	switch {
	case h.Sum64() != u64(p[56:]):
		return m, fmt.Errorf("%w: checksum of meta page %d", store.ErrDamaged, id)
	case u32(p[4:]) != version:
		return m, fmt.Errorf("%w: meta page version %d", store.ErrVersion, u32(p[4:]))
	case u64(b[:]) != id || binary.LittleEndian.Uint16(b[8:]) != flagMeta:
		return m, fmt.Errorf("%w: head of meta page %d", store.ErrDamaged, id)
	}
	m = moment{meta{root: u64(p[16:]), freelist: u64(p[32:]), high: u64(p[40:]), tx: u64(p[48:])}, int64(u32(p[8:]))}
	if m.pageSize < 512 || m.pageSize > 64<<10 || m.root < 2 || m.root >= m.high {
		return m, fmt.Errorf("%w: meta page %d: root %d of %d pages of %d bytes", store.ErrDamaged, id, m.root, m.high, m.pageSize)
	}
	return m, nil
}
