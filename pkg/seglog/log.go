package seglog

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// Preallocate says how a new segment's space is set aside.
type Preallocate int

const (
	// PreallocateSpace uses fallocate(2): a full disk is noticed when the
	// segment is begun, and appends do not change the file's size. The default.
	PreallocateSpace Preallocate = iota
	// PreallocateNone lets the file grow with each append.
	PreallocateNone
)

// Options of Open and OpenReadOnly. FS, Dir and Kind are needed.
type Options struct {
	FS  fsys.FS
	Dir string // made with mode 0700 when missing
	// Kind is kept in every segment and checked, at most 16 bytes: "journal".
	Kind string
	// SegmentBytes is where a new segment is begun; 64 MiB by default. One
	// Append is never split, so a segment can grow beyond it by one batch.
	SegmentBytes int64
	// MaxUnsynced bounds the bytes kept in memory until they are synced, 16 MiB
	// by default: an Append that would pass it syncs first.
	MaxUnsynced int
	// ReadBuffer is a Reader's buffer in bytes, 256 KiB by default.
	ReadBuffer  int
	Preallocate Preallocate
	// Hold keeps the files of all segments open (of the first 512): what somebody
	// removes or renames can be read on, and KeepHome brings it back.
	Hold bool
	// Durable says up to which entry the caller knows the log to have been durable,
	// as far as it wrote that down elsewhere. Open asks once the folder is locked; nil:
	// the log's own marks are all there is.
	Durable func() (uint64, error)

	// WatchRemoved has Sync notice that the segment was removed beneath the log, and go
	// on in another one. Without it what is appended then is lost with the process.
	WatchRemoved bool

	// ID is kept in every new segment and checked; zero for a log without.
	ID ID
	// Known is what Changed was last told; the zero value when it is not kept.
	Known Known
	// Changed, when not nil, is to make durable what is known of the log now. See
	// Known for when it is called. An error fails what it was called for: a new
	// segment is not begun, none is deleted. lost is what Open has found damaged or
	// missing, which is not found again once this is known.
	Changed func(k Known, lost []Damage) error

	seed func() uint32 // tests only: what checksums start from
}

func (o Options) withDefaults() (Options, error) {
	if o.FS == nil || o.Dir == "" {
		return o, errors.New("seglog: Options need FS and Dir")
	}
	if o.Kind == "" || len(o.Kind) > kindSize {
		return o, fmt.Errorf("seglog: kind %q: want 1 to %d bytes", o.Kind, kindSize)
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 64 << 20
	}
	if o.SegmentBytes < 2*dataOffset {
		o.SegmentBytes = 2 * dataOffset
	}
	if o.MaxUnsynced <= 0 {
		o.MaxUnsynced = 16 << 20
	}
	if o.ReadBuffer <= 0 {
		o.ReadBuffer = 256 << 10
	}
	o.ReadBuffer = max(o.ReadBuffer, 4<<10)
	if o.seed == nil {
		o.seed = randomSeed
	}
	return o, nil
}

func randomSeed() uint32 {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand since Go 1.24)
	return binary.LittleEndian.Uint32(b[:])
}

// segment is one file of the log. The atomics are what readers look at.
type segment struct {
	header
	name string
	bad  *badCopy // a damaged copy of the header, found by Open
	size int64    // of the file, when the folder was read
	// skipped says that generations are missing between this segment and the next.
	skipped bool
	end     atomic.Int64 // offset behind the last frame written; -1: unknown, not ours
	mu      sync.Mutex   // guards points and held
	// points are the offsets of some entries, for Reader to start near one.
	points []point
	held   *held // guarded by mu; nil: the file is not kept open
}

type point struct {
	index uint64
	off   int64
}

// pointEvery is how many bytes lie between two points of a segment.
const pointEvery = 64 << 10

// note remembers where an entry is when the last point is far enough back.
func (s *segment) note(index uint64, off int64) {
	if n := len(s.points); n > 0 && off-s.points[n-1].off < pointEvery {
		return
	}
	s.mu.Lock()
	s.points = append(s.points, point{index, off})
	s.mu.Unlock()
}

// near returns an offset at or before the entry.
func (s *segment) near(index uint64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, _ := slices.BinarySearchFunc(s.points, index+1, func(p point, want uint64) int {
		if p.index < want {
			return -1
		}
		return 1
	})
	if i == 0 {
		return dataOffset
	}
	return s.points[i-1].off
}

// Log is an open log. It must be closed.
type Log struct {
	opt     Options
	locking sync.Mutex // guards lock; the last to be taken
	lock    io.Closer

	segments atomic.Pointer[[]*segment] // oldest first, never empty; replaced, not changed
	last     atomic.Uint64              // index of the last entry written
	synced   atomic.Uint64              // index of the last entry that is durable
	shut     atomic.Bool

	mu      sync.Mutex // guards all below
	wake    *sync.Cond // syncing went false
	syncing bool       // a sync runs, without mu
	failed  error      // why the log takes no more
	closed  bool
	active  *segment
	file    fsys.File // of active
	gen     uint64    // of the newest segment made or tried
	entries bool      // active has at least one frame
	// pending holds the frames written but not synced, as they are in the file:
	// after a failed sync they are all that is left of them.
	pending   []byte
	usual     int      // bytes of pending that a sync usually frees, rising at once and falling slowly
	syncedEnd int64    // active's end at its last good sync
	marked    uint64   // last synced index that is on record in active
	switchNow bool     // active holds bytes that could not be cut off
	garbage   []string // removed from the list, still in the folder
	unmarked  uint64   // the newest generation that may be without an ID
}

// Append writes entries as one, in one write, and returns the index of the
// first. They are not durable before Sync. Errors: ErrNoSpace and ErrTooLarge
// leave the log as it was; ErrFailed and ErrClosed are final.
func (l *Log) Append(entries ...[]byte) (first uint64, err error) {
	size := 0
	for _, e := range entries {
		if len(e) > MaxEntry {
			return 0, fmt.Errorf("append %d bytes, at most %d: %w", len(e), MaxEntry, ErrTooLarge)
		}
		size += len(e)
	}
	return l.AppendEncoded(len(entries), size, func(i int, dst []byte) []byte { return append(dst, entries[i]...) })
}

// AppendEncoded is Append of n entries that encode appends to dst, which saves the
// caller a copy of each. encode may be called again for an entry after a failed
// write. size is about what all take together; it bounds nothing but when a
// segment or what is unsynced counts as full.
func (l *Log) AppendEncoded(n, size int, encode func(i int, dst []byte) []byte) (first uint64, err error) {
	need := n*frameHead + size
	if need > MaxBatch {
		return 0, fmt.Errorf("append a batch of %d bytes, at most %d: %w", need, MaxBatch, ErrTooLarge)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.makeRoom(need + frameHead); err != nil {
		return 0, err
	}
	first = l.last.Load() + 1
	if n == 0 {
		return first, nil
	}
	for try := 0; ; try++ {
		err = l.write(first, n, need, encode)
		if err == nil || errors.Is(err, ErrNoSpace) || errors.Is(err, ErrTooLarge) || try > 0 {
			break
		}
		// The device refused the write: as with a failed sync, nothing more
		// goes into this file.
		cause := err
		l.waitSync()
		if err := l.usable(); err != nil {
			return 0, err
		}
		if err := l.switchSegment(cause); err != nil {
			return 0, err
		}
		if l.last.Load()+1 != first {
			first = l.last.Load() + 1
		}
	}
	if err != nil {
		if !errors.Is(err, ErrNoSpace) && !errors.Is(err, ErrTooLarge) {
			err = l.fail(err)
		}
		return 0, err
	}
	return first, nil
}

// makeRoom brings the log into a state in which need bytes can be appended:
// bounded memory, a segment that is not full. It may release mu meanwhile.
func (l *Log) makeRoom(need int) error {
	for {
		if err := l.usable(); err != nil {
			return err
		}
		full := l.entries && l.active.end.Load()+int64(need) > l.opt.SegmentBytes
		switch {
		case l.switchNow:
			if l.syncing {
				l.waitSync()
				continue
			}
			if err := l.switchSegment(errors.New("a partial write could not be cut off")); err != nil {
				return err
			}
		case len(l.pending) > 0 && (full || len(l.pending)+need > l.opt.MaxUnsynced):
			if err := l.syncTo(l.last.Load()); err != nil {
				return err
			}
		case full:
			if err := l.rotate(); !errors.Is(err, ErrAway) {
				return err
			}
			return nil // it grows until it can have a successor
		default:
			return nil
		}
	}
}

// write puts n entries at the end of the active segment.
func (l *Log) write(first uint64, n, need int, encode func(i int, dst []byte) []byte) error {
	start, at := len(l.pending), l.active.end.Load()
	if short := len(l.pending) + need + frameHead - cap(l.pending); short > 0 {
		l.pending = slices.Grow(l.pending, max(need+frameHead, cap(l.pending)))
	}
	synced := l.synced.Load()
	if synced > l.marked {
		l.pending = putFrame(l.pending, l.active.seed, frameMark, synced, 0, nil)
	}
	entries := len(l.pending)
	for i := range n {
		head := len(l.pending)
		l.pending = encode(i, append(l.pending, make([]byte, frameHead)...))
		length := len(l.pending) - head - frameHead
		if length > MaxEntry {
			l.pending = l.pending[:start]
			return fmt.Errorf("append %d bytes, at most %d: %w", length, MaxEntry, ErrTooLarge)
		}
		closeFrame(l.pending[head:], l.active.seed, frameEntry, first+uint64(i), length)
	}
	if _, err := l.file.WriteAt(l.pending[start:], at); err != nil {
		l.pending = l.pending[:start]
		err = fmt.Errorf("write %s at offset %d: %w", l.active.name, at, err)
		if cut := l.file.Truncate(at); cut != nil {
			// Whole frames of this call may now lie behind the end.
			l.switchNow = true
		}
		if fsys.NoRoom(err) {
			return fmt.Errorf("%w: %w", ErrNoSpace, err)
		}
		return err
	}
	l.entries = true
	l.marked = max(l.marked, synced)
	off := at + int64(entries-start)
	for rest := l.pending[entries:]; len(rest) > 0; {
		f, _ := parseHead(rest)
		l.active.note(f.index, off)
		off += f.size()
		rest = rest[f.size():]
	}
	l.active.end.Store(off)
	l.last.Store(first + uint64(n) - 1)
	return nil
}

func (l *Log) usable() error {
	switch {
	case l.closed:
		return ErrClosed
	case l.failed != nil:
		return l.failed
	}
	return nil
}

// fail makes an error the log's last word.
func (l *Log) fail(cause error) error {
	if l.failed == nil {
		l.failed = fmt.Errorf("%w: %w", ErrFailed, cause)
	}
	return l.failed
}

// Synced is the index of the last entry that is on stable storage.
func (l *Log) Synced() uint64 { return l.synced.Load() }

// Last is the index of the last entry written, 0 before the first one ever.
func (l *Log) Last() uint64 { return l.last.Load() }

// First is the index of the oldest entry there is; Last+1 when there is none.
func (l *Log) First() uint64 { return (*l.segments.Load())[0].first }

// Size is the bytes of all segments in use, space set aside not counted.
func (l *Log) Size() int64 {
	var n int64
	for _, s := range *l.segments.Load() {
		n += s.end.Load()
	}
	return n
}

// Err is why the log takes no more entries, nil while it does.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

// TruncateFront deletes the segments whose entries are all below before. The
// newest segment stays, so that its header keeps the next index.
func (l *Log) TruncateFront(before uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	list := *l.segments.Load()
	n := 0
	for n < len(list)-1 && list[n+1].first <= before {
		l.garbage = append(l.garbage, list[n].name)
		list[n].keep(nil)
		n++
	}
	if n > 0 {
		rest := slices.Clone(list[n:])
		l.segments.Store(&rest)
	}
	if len(l.garbage) == 0 || !l.atHome() { // another folder's files may have these names
		return nil
	}
	if err := l.tell(nil); err != nil {
		return fmt.Errorf("truncate log: %w", err)
	}
	// Oldest first, each made durable before the next: whatever a crash leaves
	// has no hole.
	for len(l.garbage) > 0 {
		if err := l.opt.FS.Remove(filepath.Join(l.opt.Dir, l.garbage[0])); err != nil && !isNotExist(err) {
			return fmt.Errorf("truncate log: %w", err)
		}
		if err := l.opt.FS.SyncDir(l.opt.Dir); err != nil {
			return fmt.Errorf("truncate log: sync %s: %w", l.opt.Dir, err)
		}
		l.garbage = l.garbage[1:]
	}
	return nil
}

// Close syncs what is pending, marks the log as cleanly ended and releases it.
// It waits for a running Sync. A second call returns nil.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	var errs []error
	if l.failed == nil {
		if err := l.syncTo(l.last.Load()); err != nil {
			errs = append(errs, err)
		}
	}
	l.waitSync()
	if l.closed {
		return nil
	}
	l.closed = true
	l.shut.Store(true)
	if l.failed == nil && len(errs) == 0 {
		errs = append(errs, l.seal(), l.tell(nil))
	}
	if l.file != nil {
		errs = append(errs, l.file.Close())
		l.file = nil
	}
	for _, seg := range *l.segments.Load() {
		seg.keep(nil)
	}
	l.locking.Lock()
	errs = append(errs, l.lock.Close())
	l.locking.Unlock()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close log %s: %w", l.opt.Dir, err)
	}
	return nil
}

// seal ends the active segment with a mark, so that the next Open knows that
// everything was durable, and gives back what was set aside. A full disk may
// refuse the mark: then the next Open syncs once more than needed.
func (l *Log) seal() error {
	end := l.active.end.Load()
	if synced := l.synced.Load(); synced > l.marked {
		mark := putFrame(nil, l.active.seed, frameMark, synced, 0, nil)
		if _, err := l.file.WriteAt(mark, end); err == nil {
			end += int64(len(mark))
		} else if !fsys.NoRoom(err) {
			return err
		}
	}
	if err := l.file.Truncate(end); err != nil {
		return err
	}
	return l.file.Sync()
}
