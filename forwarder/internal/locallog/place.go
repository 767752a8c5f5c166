package locallog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

func (l *Log) dirMode() fs.FileMode {
	if l.cfg.GID > 0 {
		return 0o750
	}
	return 0o700
}

func (l *Log) fileMode() fs.FileMode {
	if l.cfg.GID > 0 {
		return 0o640
	}
	return 0o600
}

// prepareDir makes the folder where it is missing. One that is there must not be one
// where anybody can put files. One that is closed to others is opened to log_group, as
// the stock daemon does; one that they may read is left as it is (it may be /var/log).
func (l *Log) prepareDir() error {
	dir := filepath.Dir(l.cfg.Path)
	info, err := l.cfg.FS.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err := l.cfg.FS.MkdirAll(dir, l.dirMode()); err != nil {
			return fmt.Errorf("make the log folder: %w", err)
		}
		if err := l.cfg.FS.SyncDir(filepath.Dir(dir)); err != nil {
			l.cfg.Logger.Warn("the new log folder may not survive a power loss", "folder", dir, "error", err)
		}
		if l.cfg.GID > 0 {
			return l.giveDir(dir, l.dirMode()) // the umask may have taken the group's bits
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("the log folder: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("the log folder: %s is no folder", dir)
	}
	if info.Mode().Perm()&0o002 != 0 {
		return fmt.Errorf("%w: %s is writable by everybody; give log_file a folder of its own", ErrUnsafe, dir)
	}
	mode := info.Mode().Perm()
	if l.cfg.GID <= 0 || mode&0o005 == 0o005 {
		return nil
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && (int(st.Gid) != l.cfg.GID || mode&0o050 != 0o050) {
		return l.giveDir(dir, mode&^0o020|0o050)
	}
	return nil
}

// giveDir lets log_group read the folder.
func (l *Log) giveDir(dir string, mode fs.FileMode) error {
	if err := l.cfg.FS.Chown(dir, -1, l.cfg.GID); err != nil {
		return fmt.Errorf("log_group: give the log folder to its group: %w", err)
	}
	if err := l.cfg.FS.Chmod(dir, mode); err != nil {
		return fmt.Errorf("log_group: set the log folder's mode: %w", err)
	}
	return nil
}

// giveOlder lets log_group read the logs that were rotated before it was set.
func (l *Log) giveOlder() error {
	if l.cfg.GID <= 0 {
		return nil
	}
	logs, err := listOlder(l.cfg.FS, l.cfg.Path)
	if err != nil {
		return err
	}
	var errs []error
	give := func(name string) {
		f, err := l.cfg.FS.OpenFile(name, os.O_RDONLY, 0)
		if err == nil {
			err = errors.Join(f.Chown(-1, l.cfg.GID), f.Chmod(l.fileMode()&^0o200), f.Close())
		}
		if !errors.Is(err, fs.ErrNotExist) { // renamed meanwhile
			errs = append(errs, err)
		}
	}
	for _, o := range logs.byAge(l.cfg.Dated) {
		if o.plain {
			give(o.name)
		}
		if o.packed {
			give(o.name + packedSuffix)
		}
	}
	return errors.Join(errs...)
}
