package seglog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// Sync makes every entry appended before the call durable. Concurrent callers share one
// fdatasync. When that fails, Sync gives the segment up, writes its unsynced entries to a
// new one and syncs them there; only when that fails too does it return an error, which
// wraps ErrFailed, and the log accepts no more entries. (A second fdatasync of the same
// file would prove nothing: Linux reports a failed write once and then calls the page clean.)
func (l *Log) Sync() error { return l.syncAll(false) }

// SyncAside is Sync that has the kernel sync aside (fsys.Syncer): it takes a little longer, and less CPU where the process
// does little else.
func (l *Log) SyncAside() error { return l.syncAll(true) }

func (l *Log) syncAll(aside bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	return l.syncTo(l.last.Load(), aside)
}

// datasync syncs the active segment's file. Only who has set syncing calls it.
func (l *Log) datasync(file fsys.File, aside bool) error {
	if aside {
		return l.syncer.Datasync(file)
	}
	return file.Datasync()
}

// waitSync waits until no sync runs. The caller holds mu, which is released meanwhile: it
// must check again what it knew before.
func (l *Log) waitSync() {
	for l.syncing {
		l.wake.Wait()
	}
}

// syncTo returns once the entry target is durable. The caller holds mu, which is released
// during the fdatasync, so that appends go on. Only one sync runs at a time (syncing);
// callers that find one running wait, and need none of their own if it covered their
// target. last, end and len(pending) are read under mu before the sync: it covers
// exactly what they describe.
func (l *Log) syncTo(target uint64, aside bool) error {
	for l.syncing && l.synced.Load() < target {
		l.wake.Wait()
	}
	if l.synced.Load() >= target {
		return nil
	}
	if err := l.usable(); err != nil {
		return err
	}
	last, end, n, file := l.last.Load(), l.active.end.Load(), len(l.pending), l.file
	l.syncing = true
	l.mu.Unlock()
	err := l.datasync(file, aside)
	if err == nil && l.opt.WatchRemoved && removed(file) {
		err = ErrRemoved
	}
	l.mu.Lock()
	l.syncing = false
	defer l.wake.Broadcast()
	if err != nil {
		return l.switchSegment(fmt.Errorf("sync %s: %w", l.active.name, err))
	}
	l.syncedEnd = end
	l.dropPending(n)
	l.synced.Store(last)
	return nil
}

// removed reports whether a file has no name in any folder any more; false where the
// filesystem can't tell.
func removed(f fsys.File) bool {
	x, ok := f.(interface{ Removed() bool })
	return ok && x.Removed()
}

// dropPending removes the first n bytes of pending, which are durable now. The caller holds mu.
func (l *Log) dropPending(n int) {
	rest := copy(l.pending, l.pending[n:])
	l.pending = l.pending[:rest]
	// A rare large batch must not hold its memory for ever; large ones now and
	// then must not have it made anew each time.
	l.usual = max(n+rest, l.usual-l.usual/64)
	if cap(l.pending) > 1<<20 && l.usual < cap(l.pending)/8 {
		l.pending = append(make([]byte, 0, max(rest, cap(l.pending)/4)), l.pending...)
	}
}

// rotate begins a new segment behind the active one. The caller holds mu, and pending is
// empty: everything is synced, and no sync runs. After ErrNoSpace and ErrAway the active
// segment remains.
func (l *Log) rotate() error {
	seg, file, err := l.beginSegment()
	if err != nil {
		return err
	}
	// Space set aside and not used; a failure leaves zeroes, which mean nothing.
	_ = l.file.Truncate(l.active.end.Load())
	_ = l.file.Close()
	l.activate(seg, file, append(slices.Clone(*l.segments.Load()), seg))
	return nil
}

// switchSegment gives the active segment up because of cause, and writes pending, which
// has every entry that is not known to be durable, to a new segment and syncs it. The
// caller holds mu, and no sync runs. The entries keep their indexes; the new segment's
// first index tells a later Open that what the old one holds from there on counts for
// nothing.
func (l *Log) switchSegment(cause error) error {
	seg, file, err := l.beginSegment()
	if err != nil {
		if (errors.Is(err, ErrNoSpace) || errors.Is(err, ErrAway)) && l.switchNow && l.failed == nil {
			return err // nothing was given up: a later Append tries again
		}
		return l.fail(fmt.Errorf("%w; then: %w", cause, err))
	}
	resum(l.pending, seg.seed)
	end := dataOffset + int64(len(l.pending))
	if len(l.pending) > 0 {
		if _, err = file.WriteAt(l.pending, dataOffset); err == nil {
			err = file.Datasync()
		}
		if err != nil {
			_ = file.Close()
			return l.fail(fmt.Errorf("%w; then in the new segment %s: %w", cause, seg.name, err))
		}
	}
	index(seg, l.pending)
	seg.end.Store(end)
	old := l.active
	list := slices.Clone(*l.segments.Load())
	if old.first == seg.first {
		// Nothing in it was ever durable: the new one replaces it altogether.
		list = list[:len(list)-1]
		l.garbage = append(l.garbage, old.name)
		old.setHeld(nil)
	}
	_ = l.file.Close()
	entries := len(l.pending) > 0
	l.dropPending(len(l.pending))
	oldEnd := l.syncedEnd
	l.activate(seg, file, append(list, seg))
	// Only now: a reader that meets the old end finds the new segment.
	old.end.Store(min(old.end.Load(), oldEnd))
	l.entries, l.syncedEnd = entries, end
	l.synced.Store(l.last.Load())
	return nil
}

// index adds points for the entries in frames, which begin at dataOffset, to seg.
func index(seg *segment, frames []byte) {
	off := int64(dataOffset)
	for len(frames) >= frameHead {
		f, _ := parseHead(frames)
		if f.typ == frameEntry {
			seg.addPoint(f.index, off)
		}
		off += int64(f.checked())
		frames = frames[f.checked():]
	}
}

// activate makes seg, with its open file, the segment that is written, and publishes list
// to Readers. The caller holds mu, and no sync runs.
func (l *Log) activate(seg *segment, file fsys.File, list []*segment) {
	l.active, l.file = seg, file
	l.entries, l.switchNow = false, false
	l.syncedEnd, l.zeroedTo = dataOffset, 0
	l.marked = seg.first - 1
	l.segments.Store(&list)
}

// beginSegment creates a segment for the entries after the last durable one. A full
// disk is reported as ErrNoSpace while the folder is as it was. Any other
// failure is tried once more with another file; then the log has failed: a
// half-made segment may come up after a crash, and what is appended to the
// active one behind it would be shadowed. ErrAway: the folder is not in its place, and
// nothing was made.
func (l *Log) beginSegment() (*segment, fsys.File, error) {
	if !l.atHome() {
		return nil, nil, ErrAway
	}
	first := l.synced.Load() + 1
	var errs []error
	for range 2 {
		l.gen++
		seg, file, visible, err := createSegment(l.opt, first, l.gen)
		if err == nil {
			if err = l.reportNew(seg); err == nil {
				l.hold(seg)
				return seg, file, nil
			}
			_ = file.Close()
			return nil, nil, l.fail(fmt.Errorf("begin segment: %w", err))
		}
		if fsys.NoRoom(err) && !visible && len(errs) == 0 {
			return nil, nil, fmt.Errorf("%w: begin segment: %w", ErrNoSpace, err)
		}
		errs = append(errs, err)
	}
	return nil, nil, l.fail(fmt.Errorf("begin segment: %w", errors.Join(errs...)))
}

// createSegment makes a durable empty segment. It is built under another name,
// so that a file with a segment's name always has a whole header. visible says
// that after an error the name may be there nevertheless.
func createSegment(o Options, first, gen uint64) (_ *segment, _ fsys.File, visible bool, err error) {
	seg := &segment{header: header{kind: o.Kind, first: first, gen: gen, seed: o.seed(), id: o.ID}, name: segmentName(first, gen)}
	path := filepath.Join(o.Dir, seg.name)
	tmp := path + ".tmp"
	file, err := o.FS.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, nil, false, fmt.Errorf("create %s: %w", tmp, err)
	}
	defer func() {
		if err != nil {
			_ = file.Close()
			if !visible {
				_ = o.FS.Remove(tmp)
			}
		}
	}()
	if o.Preallocate == PreallocateSpace {
		// A nearly full disk may still have room for what comes: not an error.
		_ = file.Allocate(0, o.SegmentBytes)
	}
	if _, err = file.WriteAt(seg.encodePage(), 0); err != nil {
		return nil, nil, false, fmt.Errorf("write %s: %w", tmp, err)
	}
	if err = file.Sync(); err != nil {
		return nil, nil, false, fmt.Errorf("sync %s: %w", tmp, err)
	}
	if err = o.FS.Rename(tmp, path); err != nil {
		return nil, nil, !fsys.NoRoom(err), fmt.Errorf("rename %s: %w", tmp, err)
	}
	if err = o.FS.SyncDir(o.Dir); err != nil {
		return nil, nil, true, fmt.Errorf("sync %s: %w", o.Dir, err)
	}
	seg.end.Store(dataOffset)
	return seg, file, false, nil
}
