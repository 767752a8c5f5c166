package fsys

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Replace replaces the file path, atomically, by one with data and mode. It writes a file
// with path's name and ".tmp" beside it and renames that; so only one caller at a time
// may replace a path. If durable, the new file is on stable storage, with its name, when
// Replace returns.
func Replace(path string, data []byte, mode fs.FileMode, durable bool) error {
	f, err := createFresh(path + ".tmp")
	if err != nil {
		return err
	}
	return replace(f, path, data, mode, durable)
}

// createFresh creates a new file. One that a crash has left under the name, or somebody has
// planted, is removed rather than written to.
func createFresh(path string) (*os.File, error) {
	const tries = 10 // against somebody who plants again
	for n := 1; ; n++ {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
		if !errors.Is(err, fs.ErrExist) || n == tries {
			return f, err
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
}

// ReplaceShared is Replace for several callers at once: each writes a file with a unique
// name beside path. A process that is killed meanwhile leaves that file behind.
func ReplaceShared(path string, data []byte, mode fs.FileMode, durable bool) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	return replace(f, path, data, mode, durable)
}

// replace writes data to f, a new file beside path, and renames it to path; f is closed, and
// removed after an error.
func replace(f *os.File, path string, data []byte, mode fs.FileMode, durable bool) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil && durable {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if durable {
		return OS.SyncDir(filepath.Dir(path))
	}
	return nil
}
