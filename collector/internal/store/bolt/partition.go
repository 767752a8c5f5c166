package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	bbolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// mmapBytes is how much of a partition that is written is mapped from the start: to grow
// the mapping, bbolt has to wait for all readers. It costs address space only.
const mmapBytes = 8 << 30

// allocBytes is what a file grows by; bbolt's 16 MiB would be most of a small
// fleet's day wherever holes are not kept.
const allocBytes = 1 << 20

// boltTimeout is how long to wait for bbolt's own lock. The store holds the folder's lock,
// so only another program, such as bbolt's own tool, can have bbolt's.
const boltTimeout = time.Second

// entry is a group in the catalogue: its key, which is its batch where compaction did not make it, and
// what it holds.
type entry struct {
	id  uint64
	sum group.Summary
}

// partition is one file: a day's, or a part of a day's.
//
// A transaction runs under mu held for reading, and whoever closes the file or opens it
// otherwise holds mu for writing. So the file is closed only while no transaction runs, and
// what a transaction reads stays mapped until it ends. A sealed partition is closed when it
// was unused for long, and is opened again by the next view; a dropped one that a snapshot
// still reads stays open, for its name is gone.
type partition struct {
	path  string
	part  store.Part
	codec *group.Codec

	opened *opened
	used   atomic.Int64 // when it was used last, by opened's clock

	mu    sync.RWMutex // guards db and shut
	db    *bbolt.DB    // nil while the file is closed
	shut  bool         // closed for good: it is not opened again
	write atomic.Bool  // db is open to be written; set with mu held, asked without: mu may wait for the disk

	id        seglog.ID         // of the store, as the file says; zero: it says nothing
	compacted *layout.Compacted // its mark; nil: batches are appended to it, or were
	first     atomic.Uint64     // the first batch that it has a note of; 0: it has none, or that was not read yet
	lacks     bool              // of what was imported: damage took some of it. Set with imported
	imported  string            // the import that it is of; "": what senders sent, or not only that. Set before others know p
	beside    int64             // bytes of hosts and their account that came from other files since it was opened; guarded by Store.appendMu

	// Guarded by Store.mu, once the partition is one of the store's.
	brought time.Time // of an import: when the last batch came
	place   uint64    // the last batch by the file's own state, or by compaction's mark; of an import, the last one in it
	entries []entry   // by ID; replaced when it changes, so that a snapshot may keep it
	refs    int       // snapshots that use it
	dropped bool      // the file is deleted; the last snapshot closes it
	lingers uint64    // bytes of a file that is deleted and still open
}

// guard runs fn and turns a panic on damaged bytes into an error that wraps
// store.ErrDamaged and names the file. bbolt panics on some of them; and a page that is
// mapped from a file which was cut short faults when it is read.
func guard(path string, fn func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		switch r := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }: // a fault; the runtime calls it a nil pointer
			err = fmt.Errorf("%w: a page is not there: the file was cut short, or its disk cannot be read", store.ErrDamaged)
		default:
			err = fmt.Errorf("%w: %v", store.ErrDamaged, r)
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", path, err)
		}
	}()
	return fn()
}

func (p *partition) guard(fn func() error) error { return guard(p.path, fn) }

// open opens the file to be read, checks its marks, and loads id and entries. Store.mu is
// held, or nobody else knows p.
func (p *partition) open() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.openAs(false); err != nil {
		return err
	}
	err := p.guard(func() error { return p.db.View(p.check) })
	if err != nil {
		return errors.Join(err, p.closeLocked())
	}
	return nil
}

// openAs opens the file to be read or to be written, and closes it before where it is open
// otherwise; p.mu is held for writing. A file that is open to be read counts among opened,
// and opening it may close another partition's.
func (p *partition) openAs(write bool) error {
	if p.db != nil && p.write.Load() == write {
		return nil
	}
	if p.shut {
		return fmt.Errorf("%s: %w", p.path, store.ErrClosed)
	}
	if err := p.closeLocked(); err != nil {
		return err
	}
	return p.guard(func() error {
		db, err := openBolt(p.path, write)
		p.db = db
		p.write.Store(err == nil && write)
		if err == nil && !write {
			err = p.opened.add(p)
		}
		return err
	})
}

// openAgain opens the file to be read when it is closed, and checks that it is still the
// partition that it was. With stay, for a partition that is about to be dropped, nobody
// else closes it any more.
func (p *partition) openAgain(stay bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.db == nil {
		if err := p.openAs(false); err != nil {
			return err
		}
		err := p.guard(func() error { return p.db.View(p.checkSame) })
		if err != nil {
			return errors.Join(err, p.closeLocked())
		}
	}
	if stay {
		p.opened.remove(p)
	}
	return nil
}

// checkSame returns nil when the file's marks are still those of the partition: while it was
// closed, somebody may have put another file in its place.
func (p *partition) checkSame(tx *bbolt.Tx) error {
	meta := tx.Bucket(layout.BucketMarks)
	if meta == nil {
		return fmt.Errorf("%w: a bbolt file without bucket %q", store.ErrNotOurs, layout.BucketMarks)
	}
	id, err := layout.DecodeID(meta.Get(layout.KeyStore))
	if err == nil && id != p.id && p.id != (seglog.ID{}) {
		err = fmt.Errorf("%w: foreign: it is of the store %s", store.ErrDamaged, id)
	}
	return errors.Join(err, layout.CheckFormat(meta.Get(layout.KeyFormat)), layout.CheckPart(meta.Get(layout.KeyDay), meta.Get(layout.KeyPart), p.part))
}

// openBolt opens a bbolt file, which must exist. Errors: store.ErrInUse, ErrNotOurs for a
// file that was never a bbolt file, ErrDamaged, and those of the filesystem.
func openBolt(path string, write bool) (*bbolt.DB, error) {
	o := &bbolt.Options{ReadOnly: !write, Timeout: boltTimeout, FreelistType: bbolt.FreelistMapType, NoStatistics: true}
	if write {
		o.InitialMmapSize = mmapBytes
	}
	// bbolt would make a missing file, and fill an empty one: neither is to happen here.
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() == 0 {
		return nil, fmt.Errorf("%w: an empty file", store.ErrDamaged)
	}
	db, err := bbolt.Open(path, 0o600, o)
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("%w: another program has it open", store.ErrInUse)
	case errors.Is(err, berrors.ErrInvalid) && !looksLikeBolt(path):
		return nil, fmt.Errorf("%w: %w", store.ErrNotOurs, err)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return nil, fmt.Errorf("%w: %w", store.ErrDamaged, err)
	case err != nil && info.Size() < 2*int64(os.Getpagesize()): // bbolt has no sentinel for it
		return nil, fmt.Errorf("%w: %d bytes, it was cut short", store.ErrDamaged, info.Size())
	}
	if err == nil {
		db.AllocSize = allocBytes
	}
	return db, err
}

// createBolt makes a bbolt file with what fill puts into it, durably: under another name
// first, then renamed, so that a file of that name is always whole.
func createBolt(path string, fill func(*bbolt.Tx) error) error {
	tmp := path + ".tmp"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	db, err := bbolt.Open(tmp, 0o600, &bbolt.Options{Timeout: boltTimeout, FreelistType: bbolt.FreelistMapType})
	if err == nil {
		err = errors.Join(db.Update(fill), db.Close())
	}
	if err != nil {
		_ = os.Remove(tmp) // it holds nothing
		return fmt.Errorf("create: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return fsys.OS.SyncDir(filepath.Dir(path))
}

// looksLikeBolt reports whether one of the first two pages has bbolt's magic: then a file
// that bbolt refuses is a damaged one, else it is none of bbolt's.
func looksLikeBolt(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	for _, page := range []int64{0, int64(os.Getpagesize())} {
		var b [4]byte
		if _, err := f.ReadAt(b[:], page+16); err == nil && binary.LittleEndian.Uint32(b[:]) == 0xED0CDAED {
			return true
		}
	}
	return false
}

// check checks the partition's own marks and buckets, and reads id and the catalogue.
func (p *partition) check(tx *bbolt.Tx) error {
	meta := tx.Bucket(layout.BucketMarks)
	if meta == nil {
		return fmt.Errorf("%w: a bbolt file without bucket %q", store.ErrNotOurs, layout.BucketMarks)
	}
	if err := layout.CheckFormat(meta.Get(layout.KeyFormat)); err != nil {
		return err
	}
	if err := layout.CheckPart(meta.Get(layout.KeyDay), meta.Get(layout.KeyPart), p.part); err != nil {
		return err
	}
	var err error
	if p.id, err = layout.DecodeID(meta.Get(layout.KeyStore)); err != nil {
		return err
	}
	if p.compacted, err = layout.DecodeCompacted(meta.Get(layout.KeyCompacted)); err != nil {
		return err
	}
	for _, name := range layout.PartitionBuckets {
		if tx.Bucket(name) == nil {
			return fmt.Errorf("%w: no bucket %q", store.ErrDamaged, name)
		}
	}
	p.entries = nil
	err = tx.Bucket(layout.BucketCatalog).ForEach(func(k, v []byte) error {
		sum, err := group.DecodeSummary(v)
		if err != nil || len(k) != 8 {
			return errors.Join(fmt.Errorf("%w: catalogue entry %x", store.ErrDamaged, k), err)
		}
		p.entries = append(p.entries, entry{binary.BigEndian.Uint64(k), sum})
		return nil
	})
	if err != nil {
		return err
	}
	return p.checkImport(tx)
}

// create makes the file of an empty partition, durably, but does not open it. more, when
// not nil, puts things into it in the same transaction.
func (p *partition) create(more func(*bbolt.Tx) error) error {
	return p.guard(func() error {
		return createBolt(p.path, func(tx *bbolt.Tx) error {
			err := layout.NewPartition(tx, p.part, p.id)
			if err == nil && more != nil {
				err = more(tx)
			}
			return err
		})
	})
}

// view runs a read transaction, which must be short; it opens the file when it is closed.
// fn must not keep what it reads: the bytes are mapped, and valid until fn returns.
func (p *partition) view(fn func(tx *bbolt.Tx) error) error {
	p.mu.RLock()
	for p.db == nil {
		p.mu.RUnlock()
		if err := p.openAgain(false); err != nil {
			return err
		}
		p.mu.RLock()
	}
	defer p.mu.RUnlock()
	p.opened.use(p)
	return p.guard(func() error { return p.db.View(fn) })
}

// update runs a write transaction: when it returns nil, what fn wrote is durable. The file
// must be open to be written (reopen). Store.appendMu is held.
func (p *partition) update(fn func(tx *bbolt.Tx) error) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if !p.canWrite() {
		return fmt.Errorf("%s: %w", p.path, store.ErrReadOnly)
	}
	return p.guard(func() error { return p.db.Update(fn) })
}

// canWrite reports whether the file is open to be written.
func (p *partition) canWrite() bool { return p.write.Load() }

// reopen opens the file to be written, or to be read, whichever it was before. It waits
// for transactions that run, unless it is open to be written already: a batch waits for no search in its partition.
// Store.appendMu is held, so it stays so.
func (p *partition) reopen(write bool) error {
	if write && p.canWrite() {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.openAs(write)
}

// close closes the file for good. It waits for transactions that run.
func (p *partition) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shut = true
	return p.closeLocked()
}

// pause closes the file until it is used again.
func (p *partition) pause() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closeLocked()
}

// closeLocked closes the file when it is open; p.mu is held for writing.
func (p *partition) closeLocked() error {
	if p.db == nil {
		return nil
	}
	p.opened.remove(p)
	p.write.Store(false)
	err := p.db.Close()
	p.db = nil
	return err
}

// withGroup opens a group within a read transaction and calls fn with it. Neither the
// group nor bytes of it may be used after fn has returned. Errors name group and file.
func (p *partition) withGroup(id uint64, fn func(g *group.Group) error) error {
	return p.view(func(tx *bbolt.Tx) error {
		g, err := p.groupOf(tx, id)
		if err == nil {
			err = fn(g)
		}
		if err != nil {
			return fmt.Errorf("group %d: %w", id, err)
		}
		return nil
	})
}

func (p *partition) groupOf(tx *bbolt.Tx, id uint64) (*group.Group, error) {
	b, err := bytesOf(tx, id)
	if err != nil {
		return nil, err
	}
	return p.codec.Open(b)
}

func bytesOf(tx *bbolt.Tx, id uint64) ([]byte, error) {
	b := tx.Bucket(layout.BucketGroups).Bucket(layout.GroupKey(id))
	if b == nil {
		return nil, fmt.Errorf("%w: it is in the catalogue, but not there", store.ErrDamaged)
	}
	return b.Get(layout.KeyGroup), nil
}

// withBytes is withGroup for who knows the group's tables already.
func (p *partition) withBytes(id uint64, fn func(b []byte) error) error {
	return p.view(func(tx *bbolt.Tx) error {
		b, err := bytesOf(tx, id)
		if err == nil {
			err = fn(b)
		}
		if err != nil {
			return fmt.Errorf("group %d: %w", id, err)
		}
		return nil
	})
}

// stats returns the sizes of a partition with some entries. DiskBytes is the room that the file
// takes, holes not counted: the filesystem is asked, so Store.mu is not held.
func (v *partView) stats() store.PartStats {
	p := v.p
	d := store.PartStats{Part: p.part, Received: p.part.Day, Compacted: v.compacted != nil, Imported: p.ofImport(), LastID: lastBatch(v.entries)}
	if d.Compacted {
		d.Received = v.compacted.Received
		d.Class = v.compacted.Class
	}
	for i := range v.entries {
		s := &v.entries[i].sum
		d.Events += s.Events
		d.Records += s.Records
		d.RawBytes += s.RawBytes
		d.IndexBytes += s.IndexBytes
		if s.FirstMs != 0 && (d.MinMs == 0 || s.FirstMs < d.MinMs) {
			d.MinMs = s.FirstMs
		}
		d.MaxMs = max(d.MaxMs, s.MaxMs)
	}
	if info, err := os.Stat(p.path); err == nil {
		d.DiskBytes = uint64(info.Size())
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			d.DiskBytes = uint64(st.Blocks) * 512
		}
	}
	return d
}
