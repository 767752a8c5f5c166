package seglog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// ErrAway is returned by KeepHome, and within the log by what would create a file, while
// the folder's path does not lead to the folder that the log has locked.
var ErrAway = errors.New("the log's folder is not in its place")

// lockName is the file that whoever uses a folder holds the lock of.
const lockName = "lock"

// KeepHome checks whether the folder and the log's files still have their names, and
// restores them when another program has removed, renamed or replaced them: it makes and
// locks the folder again, begins a new segment there, and copies every older segment
// from the file that is held open (Options.Hold). away says that something was not in
// its place. After an error it still is not: the log goes on in the files that are open,
// begins no segment and deletes none, and the caller calls again later. Only one
// goroutine at a time may call it.
//
// What must hold: KeepHome does not touch a folder that has segments which are not this
// log's. They may be another log's, or an older state of this one.
func (l *Log) KeepHome() (away bool, err error) {
	if away = l.anyAway(); !away {
		return false, nil
	}
	if err := makeDir(l.opt); err != nil {
		return true, fmt.Errorf("%w: %w", ErrAway, err)
	}
	if err := l.strangers(); err != nil {
		return true, fmt.Errorf("%w: %w", ErrAway, err)
	}
	if err := l.lockAgain(); err != nil {
		return true, fmt.Errorf("%w: %w", ErrAway, err)
	}
	if err := l.beginAgain(); err != nil {
		return true, err
	}
	for _, seg := range *l.segments.Load() {
		if !l.segmentNamed(seg) {
			if err := l.copyHome(seg); err != nil {
				return true, fmt.Errorf("bring %s home: %w", seg.name, err)
			}
		}
	}
	return true, nil
}

// anyAway reports whether a file of the log has lost its name.
func (l *Log) anyAway() bool {
	if !l.atHome() {
		return true
	}
	return slices.ContainsFunc(*l.segments.Load(), func(seg *segment) bool { return !l.segmentNamed(seg) })
}

// atHome reports whether the folder's path leads to the folder that is locked. What
// can't be told is taken for yes, and so is a log whose owner does not call KeepHome.
func (l *Log) atHome() bool {
	if !l.opt.Hold {
		return true
	}
	l.locking.Lock()
	defer l.locking.Unlock()
	named, err := fsys.Named(l.lock, filepath.Join(l.opt.Dir, lockName))
	return named || err != nil
}

// segmentNamed reports whether a segment's path leads to the file that is held. A segment
// that is not held counts as there.
func (l *Log) segmentNamed(seg *segment) bool {
	h := seg.borrow()
	if h == nil {
		return true
	}
	defer h.Close() //nolint:errcheck // only read
	named, err := fsys.Named(h.File, filepath.Join(l.opt.Dir, seg.name))
	return named || err != nil
}

// strangers returns an error when the folder has a segment that is none of ours. A copy
// of one of ours is: its header has our seed.
func (l *Log) strangers() error {
	names, err := l.opt.FS.ReadDir(l.opt.Dir)
	if err != nil {
		return err
	}
	l.mu.Lock()
	garbage := slices.Clone(l.garbage)
	l.mu.Unlock()
	list := *l.segments.Load()
	for _, name := range names {
		if _, _, ok := parseName(name); !ok || slices.Contains(garbage, name) {
			continue
		}
		i := slices.IndexFunc(list, func(seg *segment) bool { return seg.name == name })
		if i >= 0 && l.sameHeader(list[i]) {
			continue
		}
		return fmt.Errorf("%s is in its place, and no file of this log: move it and what belongs to it to another folder", filepath.Join(l.opt.Dir, name))
	}
	return nil
}

// sameHeader reports whether the file under a segment's name begins as the segment does.
func (l *Log) sameHeader(seg *segment) bool {
	file, err := l.opt.FS.OpenFile(filepath.Join(l.opt.Dir, seg.name), os.O_RDONLY, 0)
	if err != nil {
		return isNotExist(err) // deleted meanwhile
	}
	defer file.Close()
	page := make([]byte, dataOffset)
	if _, err := file.ReadAt(page, 0); err != nil {
		return false
	}
	h, _, err := decodePage(page)
	return err == nil && h == seg.header
}

// lockAgain locks the folder that the path leads to now, and gives the old one's lock back.
func (l *Log) lockAgain() error {
	if l.atHome() {
		return nil
	}
	lock, err := l.opt.FS.Lock(filepath.Join(l.opt.Dir, lockName))
	if err != nil {
		return err
	}
	l.locking.Lock()
	old := l.lock
	l.lock = lock
	l.locking.Unlock()
	_ = old.Close() // nobody can reach it
	return nil
}

// beginAgain begins a segment when the active one has lost its name.
func (l *Log) beginAgain() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	if l.segmentNamed(l.active) {
		return nil
	}
	if err := l.syncTo(l.last.Load(), false); err != nil {
		return err
	}
	l.waitSync()
	if err := l.usable(); err != nil {
		return err
	}
	return l.switchSegment(fmt.Errorf("%s has lost its name", l.active.name))
}

// copyHome gives an older segment its name again, with a copy of the file that is held.
func (l *Log) copyHome(seg *segment) (err error) {
	from := seg.borrow()
	if from == nil {
		return nil
	}
	defer from.Close() //nolint:errcheck // only read
	path := filepath.Join(l.opt.Dir, seg.name)
	tmp := path + ".tmp"
	if err := l.opt.FS.Remove(tmp); err != nil && !isNotExist(err) {
		return err
	}
	to, err := l.opt.FS.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err = copyRange(to, 0, from, 0, seg.end.Load()); err == nil {
		err = to.Sync()
	}
	if err != nil {
		return errors.Join(err, to.Close(), l.opt.FS.Remove(tmp))
	}
	l.mu.Lock() // nobody deletes segments
	defer l.mu.Unlock()
	if l.closed || !slices.Contains(*l.segments.Load(), seg) {
		return errors.Join(to.Close(), l.opt.FS.Remove(tmp))
	}
	if err := l.opt.FS.Rename(tmp, path); err != nil {
		return errors.Join(err, to.Close(), l.opt.FS.Remove(tmp))
	}
	seg.setHeld(to)
	return l.opt.FS.SyncDir(l.opt.Dir)
}
