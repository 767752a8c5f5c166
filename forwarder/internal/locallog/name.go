package locallog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// lookEvery is how often the log's name is looked at while records are written. It
// bounds how many can go into a file that somebody has removed.
const lookEvery = 100 * time.Millisecond

// name is what is known of the log's name.
type name struct {
	looked time.Time
	sound  uint64 // records there were when the open file last had its name
	aside  bool   // a rotation of ours renamed the file and failed then: it is tried again
}

// stat looks at an open file: nil for one that is no file of the system's.
func stat(f fsys.File) (fs.FileInfo, error) {
	if f, ok := f.(interface{ Stat() (fs.FileInfo, error) }); ok {
		return f.Stat()
	}
	return nil, nil
}

// looksAtName is keepName for the path that writes: not more often than need be.
func (l *Log) looksAtName() error {
	if now := l.cfg.Now(); now.Sub(l.name.looked) >= lookEvery || now.Before(l.name.looked) {
		return l.keepName()
	}
	return nil
}

// keepName looks whether the open file is still the one with the log's name, and opens
// the log again when somebody has renamed it, which loses nothing, or removed it: what
// was written since the last look may then be in no file, and is counted. With an error
// the log can't be written.
func (l *Log) keepName() error {
	if l.file == nil {
		return nil
	}
	l.name.looked = l.cfg.Now()
	open, err := stat(l.file)
	if err != nil {
		return fmt.Errorf("look at the open log: %w", err)
	}
	if open == nil {
		return nil
	}
	there, err := l.cfg.FS.Stat(l.cfg.Path)
	switch {
	case err == nil && os.SameFile(open, there):
		l.name.sound = l.records.Load()
		l.followSize(open.Size())
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil // it can't be told; a write says what is wrong
	}
	removed := l.countNameless(open)
	if err != nil && l.name.aside && !removed {
		l.name.sound = l.records.Load()
		return nil
	}
	if err := l.reopen(); err != nil {
		return fmt.Errorf("the log was removed or renamed by another program, and can't be opened again: %w", err)
	}
	if removed {
		l.cfg.Logger.Warn("the local log had been removed by another program and is made again: records went into a file without a name",
			"file", l.cfg.Path, "records", l.nameless.Load())
	} else {
		l.cfg.Logger.Warn("the local log had been renamed by another program and is opened again: no record is lost by that; the forwarder rotates by itself (max_log_file_action)",
			"file", l.cfg.Path)
	}
	return nil
}

// countNameless counts what went into a file without a name since it was last seen to
// have one. It reports whether the file has none.
func (l *Log) countNameless(open fs.FileInfo) bool {
	if st, ok := open.Sys().(*syscall.Stat_t); !ok || st.Nlink > 0 {
		return false
	}
	now := l.records.Load()
	l.nameless.Add(now - l.name.sound)
	l.name.sound = now
	return true
}

// reopen opens the log under its name in the place of the file that had it.
func (l *Log) reopen() error {
	if err := l.prepareDir(); err != nil {
		return err
	}
	next := &Log{cfg: l.cfg}
	if err := next.openFile(); err != nil {
		return err
	}
	if err := next.cutTorn(); err != nil {
		return errors.Join(err, next.file.Close())
	}
	l.syncNames()
	if l.syncer != nil {
		l.syncer.wait()
	}
	if l.torn { // it is not ours to write any more
		_ = l.file.Truncate(l.size)
	}
	var err error
	if l.cfg.Flush != FlushNone && l.unsync > 0 {
		err = l.file.Datasync()
	}
	if err = errors.Join(err, l.file.Close()); err != nil {
		l.cfg.Logger.Warn("the log that was renamed or removed could not be closed well", "error", err)
	}
	l.file, l.size, l.torn, l.unsync, l.warned = next.file, next.size, false, 0, false
	l.name.aside = false
	l.reopened.Add(1)
	return nil
}

// followSize takes over the size of a log that somebody has cut (logrotate's
// copytruncate).
func (l *Log) followSize(size int64) {
	if size >= l.size || l.torn {
		return
	}
	l.cfg.Logger.Warn("the local log has been cut by another program: what it held is not in it any more", "file", l.cfg.Path, "bytes", l.size-size)
	l.size, l.warned = size, false
}

// lastLook counts, at the end, what went into a file without a name.
func (l *Log) lastLook() {
	if l.file == nil {
		return
	}
	if open, err := stat(l.file); err == nil && open != nil && l.countNameless(open) {
		l.cfg.Logger.Warn("the local log has been removed by another program: its last records are in no file", "file", l.cfg.Path, "records", l.nameless.Load())
	}
}
