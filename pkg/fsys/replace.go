package fsys

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Replace puts a file of data and mode in the place of path at once or not at all,
// by way of a file beside it with path's name and ".tmp": one caller at a time. With
// durable it is on disk, under its name, when Replace returns.
func Replace(path string, data []byte, mode fs.FileMode, durable bool) error {
	f, err := createFresh(path + ".tmp")
	if err != nil {
		return err
	}
	return replace(f, path, data, mode, durable)
}

// createFresh creates a file that was not there: what a crash left, or somebody
// planted, is removed and not written to.
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

// ReplaceShared is Replace for callers that may come at once: the file beside path
// has a name of its own each time, which stays when the process is killed.
func ReplaceShared(path string, data []byte, mode fs.FileMode, durable bool) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	return replace(f, path, data, mode, durable)
}

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
