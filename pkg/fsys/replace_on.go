package fsys

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ReplaceOn is a durable Replace on any FS, for one caller at a time. While it runs, and
// after an error, path is the whole old file or the whole new one; only reading it tells
// which.
func ReplaceOn(f FS, path string, data []byte, mode fs.FileMode) (err error) {
	tmp := path + ".tmp"
	// A file of this name was left by a crash, or planted.
	if err := f.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	file, err := f.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	_, err = file.WriteAt(data, 0)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = f.Rename(tmp, path)
	}
	if err != nil {
		_ = f.Remove(tmp) // the next call removes it, too
		return fmt.Errorf("replace %s: %w", path, err)
	}
	if err := f.SyncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	return nil
}

// CreateOn writes a new file durably: whole, or not at all. It never overwrites: where path
// is there, the error is fs.ErrExist. The name is taken with an empty file first, which is
// what a process that is killed may leave.
func CreateOn(f FS, path string, data []byte, mode fs.FileMode) error {
	mine, err := f.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if err = mine.Close(); err == nil {
		err = ReplaceOn(f, path, data, mode)
	}
	if err != nil {
		return errors.Join(err, f.Remove(path))
	}
	return nil
}
