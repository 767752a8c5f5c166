// Package pages reads bbolt files page by page. It takes no lock of bbolt's, so it reads
// beside a server that writes the file, and it trusts no byte, so that damage is found
// where it lies and the rest can still be read. It knows bbolt's format and nothing of what
// a store keeps in it. Packages below store/bolt may import it; it imports store for its
// errors.
//
// A page begins with a head of 16 bytes: its number (8 bytes), flags (2), number of
// elements (2), and how many more pages belong to it (4). Elements of 16 bytes follow, each
// with the place of its key, and of its value or of the page below. The first two pages are
// meta pages, which a transaction writes by turns: the one with the greater transaction
// that is whole counts. All numbers are little-endian.
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

// File is a bbolt file that is open to be read. Any number of goroutines may use it.
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

// ReadAt reads bytes of the file, such as those of a Run; as io.ReaderAt.
func (f *File) ReadAt(b []byte, off int64) (int, error) { return f.f.ReadAt(b, off) }

// Stat returns what the filesystem knows of the file.
func (f *File) Stat() (os.FileInfo, error) { return f.f.Stat() }

// ErrBusy is returned for a file that is written faster than it can be read.
var ErrBusy = errors.New("the file is written faster than it can be read: try again when there is less load")

// ReadTree runs fn on the file's tree as it is at one moment. When the file was written
// meanwhile, fn runs again on the tree as it is then, and must begin from nothing; its
// error counts only when the file was not written. After 200 tries it is an ErrBusy.
//
// Reading beside a writer is sound because bbolt never writes over a page that its newest
// meta page reaches. Such a page becomes free only with the commit that follows, and is used
// again only by the commit after that, whose meta page is written last. So pages that were
// read under a meta page which is still the newest one afterwards belong together. The
// bytes of a group stay where they are for as long as the group exists, so they may be read
// later, when the meta page has moved on.
func (f *File) ReadTree(fn func(t *Tree) error) error {
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

// Transaction returns the number of the newest meta page's transaction. The file's content
// is another one exactly when this number is.
func (f *File) Transaction() (uint64, error) {
	m, err := f.newest(nil)
	return m.tx, err
}

// meta is the content of a meta page: the page of the root bucket, the page of the list of
// free pages (or noFreelist), how many pages there are, and the transaction.
type meta struct{ root, freelist, high, tx uint64 }

// moment is a meta page that was read, and the size of pages that it gives.
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

// newest reads both meta pages and returns the newest that is whole. It calls bad, when not
// nil, with a meta page that is not. When the first is damaged, the second is looked for at
// each size that pages may have.
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

// metaAt reads the meta page at off, which should have the number id, and checks it.
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
