// Package fsys is the seam between storage code and the operating system: just
// the file operations a durable log needs, so that tests can put a failing or
// power-losing disk (fsys/faultfs) in the place of the real one. Beside it, Replace
// is for small files, and OpenTrusted, OpenOwn and CheckDir for files and folders that
// somebody else may have put there. It imports nothing of ours; pkg/seglog and both daemons may
// import it.
package fsys

import (
	"errors"
	"io"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"
)

// ErrLocked is returned by FS.Lock and TryLock when somebody else holds the lock. Lock's
// error says who.
var ErrLocked = errors.New("locked")

// ErrUnsupported is returned by File.Allocate where the filesystem cannot set
// space aside. The caller goes on without.
var ErrUnsupported = errors.ErrUnsupported

// NoRoom reports whether err says that the disk or a quota is full.
func NoRoom(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// FS has the filesystem operations that storage code may use. Names are paths as the os
// package accepts them. Any goroutine may call any method.
type FS interface {
	// OpenFile opens a regular file as os.OpenFile does; flag holds os.O_* bits. A
	// symbolic link is refused.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	// MkdirAll creates a folder and those above it, and refuses one in which others
	// could plant links (CheckDir). An entry made by it, as
	// any other new entry, is durable after SyncDir of the folder above.
	MkdirAll(name string, perm fs.FileMode) error
	// Rename replaces newname atomically.
	Rename(oldname, newname string) error
	Remove(name string) error
	// ReadDir returns the names in a folder, sorted.
	ReadDir(name string) ([]string, error)
	// Stat follows symbolic links, as os.Stat does.
	Stat(name string) (fs.FileInfo, error)
	// Size returns a file's length in bytes.
	Size(name string) (int64, error)
	// Space returns how many bytes of the filesystem on which name lies are free for
	// everybody (what is set aside for root is not), and how many it has.
	Space(name string) (free, total uint64, err error)
	Chmod(name string, perm fs.FileMode) error
	// Chown changes owner and group; -1 leaves one as it is.
	Chown(name string, uid, gid int) error
	Chtimes(name string, atime, mtime time.Time) error
	// SyncDir makes the entries of a folder durable: what was created, renamed
	// or removed there before the call.
	SyncDir(name string) error
	// Lock takes an exclusive lock on the file name, which it creates, without
	// waiting. It ends with Close or with the process. ErrLocked when held.
	Lock(name string) (io.Closer, error)
}

// File is an open file. Any goroutine may call its methods, but Read and Write only one at
// a time; what a read returns of bytes that a write under way covers is undefined.
type File interface {
	// ReadAt and WriteAt are for a caller that keeps its own offsets. WriteAt fails on a
	// file opened with os.O_APPEND.
	io.ReaderAt
	io.WriterAt
	// Read and Write go on at the file's own offset; Write at the file's end when it was
	// opened with os.O_APPEND.
	io.Reader
	io.Writer
	io.Closer
	Name() string
	Size() (int64, error)
	ModTime() (time.Time, error)
	Truncate(size int64) error
	Chmod(perm fs.FileMode) error
	Chown(uid, gid int) error
	// Allocate sets space aside for [off, off+n) and extends the file's size to
	// it; new bytes read as zero.
	Allocate(off, n int64) error
	// Sync makes data and all metadata durable, Datasync the data and what is
	// needed to read it. After a failure nothing is known of what was written
	// since the last success, and a retry on the same file that succeeds says
	// nothing about it either: the kernel has marked the pages clean.
	Sync() error
	Datasync() error
}

// Cause returns the error inside a *fs.PathError, without its path, for messages that name
// the path already; any other error unchanged.
func Cause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
