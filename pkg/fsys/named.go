package fsys

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Named reports whether path still names the open file f; false after another program has
// removed or renamed it, or put another file in its place. f is a File, or what FS.Lock
// returned. For a file that is not the operating system's (a test's) it returns true. An
// error means that it can't tell.
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
