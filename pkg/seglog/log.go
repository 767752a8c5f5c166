package seglog

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// Log is an open log. The caller must close it.
//
// What must hold, and why Append may run beside a sync:
//   - synced <= last, and both only grow. Entries from synced+1 to last are in pending,
//     byte for byte as in the active file from syncedEnd on: pending alone can restore
//     them, as pages whose write failed read well and count as clean.
//   - syncTo sets syncing and releases mu during the fdatasync. While syncing is true
//     nobody changes active, file or the front of pending: rotate and switchSegment wait
//     (waitSync) until it is false. Append may add to the end of pending and of the file;
//     the sync confirms only what lay before the end it saw, so it drops just that much.
//   - An entry counts as durable only when synced says so, and a segment is made only
//     when nothing before its first index is in doubt: first is synced+1 (beginSegment).
//   - write stores the segment's end and then last after WriteAt has returned: a Reader
//     that sees an entry below end finds its bytes in the file.
//   - segments is never empty, and a published list is never changed: whoever holds mu
//     stores another one. Readers keep the list that they loaded.
type Log struct {
	opt     Options
	locking sync.Mutex // guards lock; the last to be taken
	lock    io.Closer

	segments atomic.Pointer[[]*segment] // oldest first, never empty; replaced, not changed; stored with mu held
	last     atomic.Uint64              // index of the last entry written; stored with mu held
	synced   atomic.Uint64              // index of the last entry that is durable; stored with mu held
	shut     atomic.Bool                // Close was called: Readers return ErrClosed

	mu      sync.Mutex  // guards the fields below
	wake    *sync.Cond  // signals that syncing went false
	syncing bool        // a sync runs, with mu released
	syncer  fsys.Syncer // of who has set syncing
	failed  error       // why the log takes no more
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
	marked    uint64   // highest synced index that a mark in active records
	zeroedTo  int64    // up to where active has data: what was appended, and zeroes ahead of it
	zeroes    []byte   // what zeroAhead writes
	switchNow bool     // active holds bytes behind its end that could not be cut off: it must be replaced
	garbage   []string // names of segments that are out of the list and not yet deleted, oldest first
	unmarked  uint64   // the newest generation that may be without an ID
}

// Append writes entries with one write and returns the index of the first; the others
// follow it without a gap. It copies them. They are durable only after a Sync that began
// later, and Readers may see them before. After ErrNoSpace and ErrTooLarge the log has
// none of them and stays usable; ErrFailed and ErrClosed are final. It waits for the
// device when more than MaxUnsynced bytes are unsynced, or a new segment must begin.
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

// AppendEncoded appends n entries as Append does, but has encode append entry i to dst and
// return the result, which saves a copy of each. encode runs with the log's lock held and
// must not call the log; after a failed write it may be called again for the same entries.
// size estimates the bytes of all entries together; it only decides whether the segment
// or the unsynced bytes count as full.
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

// makeRoom syncs, or begins a new segment, until need bytes can be appended: pending stays
// within MaxUnsynced and the active segment is not full. The caller holds mu; makeRoom
// may release it meanwhile, so the caller reads last only afterwards.
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
			if err := l.syncTo(l.last.Load(), false); err != nil {
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

// write appends n entries to the active segment and to pending. The caller holds mu, which
// stays held: so entries lie in the file in the order of their indexes. A failed write is
// cut off the file again; where that fails too, switchNow has the segment replaced before
// anything else is appended.
func (l *Log) write(first uint64, n, need int, encode func(i int, dst []byte) []byte) error {
	start, at := len(l.pending), l.active.end.Load()
	if least := start + need + frameHead; least > cap(l.pending) {
		// It doubles, but to no more than it may ever hold: append would leave a quarter of
		// that unused.
		most := max(least, min(2*cap(l.pending), l.opt.MaxUnsynced+frameHead))
		l.pending = append(make([]byte, 0, most), l.pending...)
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
	l.zeroAhead(at+int64(len(l.pending)-start), len(l.pending)-start)
	l.entries = true
	l.marked = max(l.marked, synced)
	off := at + int64(entries-start)
	for rest := l.pending[entries:]; len(rest) > 0; {
		f, _ := parseHead(rest)
		l.active.addPoint(f.index, off)
		off += f.size()
		rest = rest[f.size():]
	}
	l.active.end.Store(off)
	l.last.Store(first + uint64(n) - 1)
	return nil
}

// usable returns why the log takes no entries: ErrClosed, ErrFailed, nil when it does. The
// caller holds mu.
func (l *Log) usable() error {
	switch {
	case l.closed:
		return ErrClosed
	case l.failed != nil:
		return l.failed
	}
	return nil
}

// fail makes the log refuse all further entries with ErrFailed, because of cause. The first
// cause stays. The caller holds mu.
func (l *Log) fail(cause error) error {
	if l.failed == nil {
		l.failed = fmt.Errorf("%w: %w", ErrFailed, cause)
	}
	return l.failed
}

// Synced returns the index of the last entry that is on stable storage.
func (l *Log) Synced() uint64 { return l.synced.Load() }

// Last returns the index of the last entry written, 0 before the first one ever.
func (l *Log) Last() uint64 { return l.last.Load() }

// First returns the index of the oldest entry in the log; Last+1 when there is none.
func (l *Log) First() uint64 { return (*l.segments.Load())[0].first }

// Size returns the size in bytes of all segments in use, preallocated space not counted.
func (l *Log) Size() int64 {
	var n int64
	for _, s := range *l.segments.Load() {
		n += s.end.Load()
	}
	return n
}

// Err returns why the log refuses further entries (ErrFailed), nil while it accepts them.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

// TruncateFront deletes the segments whose entries all have indexes below before. The
// newest segment always stays: its header keeps the next index, so no index is used
// twice. A Reader whose next entry is gone returns ErrTruncated. After an error the
// segments are out of the log; a later call deletes their files.
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
		list[n].setHeld(nil)
		n++
	}
	if n > 0 {
		rest := slices.Clone(list[n:])
		l.segments.Store(&rest)
	}
	if len(l.garbage) == 0 || !l.atHome() { // another folder's files may have these names
		return nil
	}
	if err := l.reportKnown(nil); err != nil {
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

// Close syncs what is pending, marks the log as cleanly ended and releases its files and
// lock. It waits for a running Sync. A second call returns nil.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	var errs []error
	if l.failed == nil {
		if err := l.syncTo(l.last.Load(), false); err != nil {
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
		errs = append(errs, l.seal(), l.reportKnown(nil))
	}
	if l.file != nil {
		errs = append(errs, l.file.Close())
		l.file = nil
	}
	errs = append(errs, l.syncer.Close())
	for _, seg := range *l.segments.Load() {
		seg.setHeld(nil)
	}
	l.locking.Lock()
	errs = append(errs, l.lock.Close())
	l.locking.Unlock()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close log %s: %w", l.opt.Dir, err)
	}
	return nil
}

// seal ends the active segment with a mark, so that the next Open knows that everything was
// durable, and cuts off the space that was preallocated. On a full disk there may be no room
// for the mark: then the next Open syncs once more than it has to. The caller holds mu.
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
