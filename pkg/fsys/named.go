package fsys

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Named reports whether an open file is the one that a path names now; false after
// somebody has removed or renamed it, or put another one in its place. f is a File, or
// what Lock returned. What is no file of the system's (a test's) has its name always.
// An error says that it can't be told.
func Named(f any, path string) (bool, error) {
	open, ok := f.(interface{ Stat() (fs.FileInfo, error) })
	if !ok {
		return true, nil
	}
	mine, err := open.Stat()
	if err != nil {
		return false, err
	}
	there, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return os.SameFile(mine, there), nil
}
