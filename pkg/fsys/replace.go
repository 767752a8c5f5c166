package fsys

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Replace puts a file of data and mode in the place of path at once or not at all,
// by way of a file beside it with path's name and ".tmp": one caller at a time. With
// durable it is on disk, under its name, when Replace returns.
func Replace(path string, data []byte, mode fs.FileMode, durable bool) error {
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return replace(f, path, data, mode, durable)
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
