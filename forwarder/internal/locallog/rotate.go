package locallog

import (
	"errors"
	"fmt"
	"time"
)

// Rotate starts a new file: audit.log becomes audit.log.1 (read-only), audit.log.1 becomes
// audit.log.2 and so on; or audit.log gets a name with the time (Config.Dated). With
// fewer than two files allowed it does nothing. ErrSuspended: writing is suspended.
func (l *Log) Rotate() error {
	if l.cfg.NumLogs < 2 && l.cfg.Action != ActionKeepLogs {
		return nil
	}
	if l.file == nil {
		return ErrSuspended
	}
	if err := l.keepName(); err != nil {
		return fmt.Errorf("rotate: %w", err)
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
	if err := l.putAside(); err != nil {
		l.name.aside = true
		return errors.Join(err, fresh.Close())
	}
	l.syncNames()
	rotated := l.file
	l.file, l.size, l.warned = fresh, size, false
	l.name.sound, l.name.aside = l.records.Load(), false
	if err := rotated.Chmod(l.fileMode() &^ 0o200); err != nil {
		l.cfg.Logger.Warn("the rotated log could not be made read-only", "error", err)
	}
	l.rotations.Add(1)
	l.packer.kick.Set()
	return rotated.Close()
}

// newSuffix names the next file until the old ones have been shifted.
const newSuffix = ".new"

// putAside renames audit.log, and puts the new file in its place.
func (l *Log) putAside() error {
	l.packer.mu.Lock()
	defer l.packer.mu.Unlock()
	aside := l.shift
	if l.cfg.Dated {
		aside = l.date
	}
	if err := aside(); err != nil {
		return fmt.Errorf("rotate: %w", err)
	}
	if err := l.cfg.FS.Rename(l.cfg.Path+newSuffix, l.cfg.Path); err != nil {
		return fmt.Errorf("rotate: %w", err)
	}
	if err := l.trim(); err != nil {
		l.cfg.Logger.Warn("logs beyond num_logs could not be removed", "error", err)
	}
	return nil
}

// shift renames the numbered files upwards, highest first. What goes beyond
// NumLogs is overwritten by the rename. The packer's lock is held.
func (l *Log) shift() error {
	there := func(name string) bool { _, err := l.cfg.FS.Stat(name); return err == nil }
	last := l.cfg.NumLogs - 1
	if l.cfg.Action == ActionKeepLogs {
		for last = 1; there(numberedName(l.cfg.Path, last)) || there(numberedName(l.cfg.Path, last)+packedSuffix); last++ {
			continue
		}
	}
	l.rotated = 0
	for i := last; i >= 1; i-- {
		from, to := numberedName(l.cfg.Path, i-1), numberedName(l.cfg.Path, i)
		plain := there(from)
		if !plain && (i == 1 || !there(from+packedSuffix)) {
			continue
		}
		if err := l.move(from, to, plain && i > 1, plain); err != nil {
			return err
		}
		if i > 1 {
			l.rotated++
		}
	}
	return nil
}

// move renames one log, and ends the one it replaces. A crash between two steps
// leaves no log twice under two numbers, and no older one in place of a newer.
func (l *Log) move(from, to string, mayBeTwice, plain bool) error {
	disk := l.cfg.FS
	if mayBeTwice {
		if l.packer.job.placed {
			l.packer.gone(from)
		}
		if err := removeIfThere(disk, from+packedSuffix); err != nil {
			return err
		}
	}
	l.packer.gone(to)
	if plain {
		if err := removeIfThere(disk, to+packedSuffix); err != nil {
			return err
		}
		if err := disk.Rename(from, to); err != nil {
			return err
		}
		l.packer.moved(from, to)
		return nil
	}
	if err := removeIfThere(disk, to); err != nil {
		return err
	}
	return disk.Rename(from+packedSuffix, to+packedSuffix)
}

// date names audit.log by the time, or, where a clock went back or a second is
// not over, by the second after the newest name. The packer's lock is held.
func (l *Log) date() error {
	logs, err := listOlder(l.cfg.FS, l.cfg.Path)
	if err != nil {
		return err
	}
	at := l.cfg.Now().UTC().Truncate(time.Second)
	if !at.After(logs.newest) {
		at = logs.newest.Add(time.Second)
	}
	stamp := at.Format(datedLayout)
	if _, err := time.Parse(datedLayout, stamp); err != nil {
		return fmt.Errorf("no name sorts behind the newest log's, of %s", logs.newest.Format(datedLayout))
	}
	l.rotated = logs.count()
	return l.cfg.FS.Rename(l.cfg.Path, l.cfg.Path+"."+stamp)
}

// trim removes the oldest logs where there are more than NumLogs. Numbered ones
// alone never are after a shift. The packer's lock is held.
func (l *Log) trim() error {
	if l.cfg.Action != ActionRotate || l.cfg.NumLogs < 2 {
		return nil
	}
	logs, err := listOlder(l.cfg.FS, l.cfg.Path)
	if err != nil {
		return err
	}
	excess := logs.count() - (l.cfg.NumLogs - 1)
	for _, o := range logs.byAge(l.cfg.Dated)[:max(excess, 0)] {
		l.packer.gone(o.name)
		if _, err := removeOlder(l.cfg.FS, o.name); err != nil {
			return err
		}
	}
	return nil
}

// removeExcess removes logs beyond NumLogs, as the stock daemon does at its
// start: their number may have been lowered.
func (l *Log) removeExcess() error {
	l.packer.mu.Lock()
	defer l.packer.mu.Unlock()
	if l.cfg.Action != ActionRotate || l.cfg.NumLogs < 2 {
		return nil
	}
	for i := l.cfg.NumLogs; ; i++ {
		name := numberedName(l.cfg.Path, i)
		l.packer.gone(name)
		there, err := removeOlder(l.cfg.FS, name)
		if err != nil {
			return err
		}
		if !there {
			break
		}
		l.cfg.Logger.Info("a log beyond num_logs was removed", "file", name)
	}
	return l.trim()
}
