package locallog

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
)

// Rotate starts a new file: audit.log becomes audit.log.1 (read-only) and so on.
// With fewer than two files allowed it does nothing.
func (l *Log) Rotate() error {
	if l.inBuf > 0 {
		// Called between batches or from writeOut, which has emptied the buffer:
		// only an administrator's rotation finds something here.
		l.writeOut()
	}
	if l.cfg.NumLogs < 2 && l.cfg.Action != ActionKeepLogs {
		return nil
	}
	if l.file == nil {
		return ErrSuspended
	}
	// The new file is made first: when that fails nothing has been renamed, and
	// no old log is pushed out by trying again.
	fresh, size, err := l.openAs(l.cfg.Path + newSuffix)
	if err != nil {
		return fmt.Errorf("rotate: %w", err)
	}
	if l.syncer != nil {
		l.syncer.wait()
	}
	if l.cfg.Flush != FlushNone {
		l.noteSync(l.file.Datasync())
	}
	l.unsync = 0
	if err := l.shift(); err != nil {
		return errors.Join(err, fresh.Close())
	}
	if err := l.cfg.FS.Rename(l.cfg.Path+newSuffix, l.cfg.Path); err != nil {
		return errors.Join(fmt.Errorf("rotate: %w", err), fresh.Close())
	}
	rotated := l.file
	l.file, l.size, l.warned = fresh, size, false
	if err := rotated.Chmod(l.fileMode() &^ 0o200); err != nil {
		l.cfg.Logger.Warn("the rotated log could not be made read-only", "error", err)
	}
	l.rotations.Add(1)
	return rotated.Close()
}

// newSuffix names the next file until the old ones have been shifted.
const newSuffix = ".new"

// shift renames the numbered files upwards, highest first. What goes beyond
// NumLogs is overwritten by the rename.
func (l *Log) shift() error {
	name := func(i int) string {
		if i == 0 {
			return l.cfg.Path
		}
		return l.cfg.Path + "." + strconv.Itoa(i)
	}
	last := l.cfg.NumLogs - 1
	if l.cfg.Action == ActionKeepLogs {
		for last = 1; ; last++ {
			if _, err := l.cfg.FS.Stat(name(last)); err != nil {
				break
			}
		}
	}
	l.rotated = 0
	for i := last; i >= 1; i-- {
		err := l.cfg.FS.Rename(name(i-1), name(i))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("rotate: %w", err)
		}
		if err == nil && i > 1 {
			l.rotated++
		}
	}
	return nil
}

// removeExcess removes numbered logs beyond NumLogs, as the stock daemon does at
// its start: their number may have been lowered.
func (l *Log) removeExcess() error {
	if l.cfg.Action != ActionRotate || l.cfg.NumLogs < 2 {
		return nil
	}
	for i := l.cfg.NumLogs; ; i++ {
		name := l.cfg.Path + "." + strconv.Itoa(i)
		if err := l.cfg.FS.Remove(name); errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		l.cfg.Logger.Info("a log beyond num_logs was removed", "file", name)
	}
}
