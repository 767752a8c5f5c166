// Package fsys is the seam between storage code and the operating system. FS and File have
// the operations that a durable log needs, so that tests can put a disk that fails or loses
// power (fsys/faultfs) in the place of the real one. Beside these, Replace replaces small
// files, and OpenTrusted, OpenOwn and CheckDir refuse files and folders that another user may
// have put there. It imports nothing of ours; pkg/seglog and both daemons may import it.
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
	// MkdirAll creates a folder and those above it, and refuses one in which others could
	// plant links (CheckDir). The entry of a new folder, as of a new file, is durable after
	// SyncDir of the folder above.
	MkdirAll(name string, perm fs.FileMode) error
	// Rename gives a file another name, and replaces the file that has it, atomically.
	Rename(oldname, newname string) error
	Remove(name string) error
	// ReadDir returns the names in a folder, sorted.
	ReadDir(name string) ([]string, error)
	// Stat follows symbolic links, as os.Stat does.
	Stat(name string) (fs.FileInfo, error)
	// Size returns a file's length in bytes.
	Size(name string) (int64, error)
	// Space returns how many bytes are free for everybody on the filesystem of name (those
	// reserved for root are not), and how many it has.
	Space(name string) (free, total uint64, err error)
	Chmod(name string, perm fs.FileMode) error
	// Chown changes owner and group; -1 leaves one as it is.
	Chown(name string, uid, gid int) error
	Chtimes(name string, atime, mtime time.Time) error
	// SyncDir makes the entries of a folder durable: files that were created, renamed or
	// removed there before the call.
	SyncDir(name string) error
	// Lock locks the file name exclusively, and creates it when it is not there. It does not
	// wait: ErrLocked when somebody else holds the lock. The lock ends with Close of what is
	// returned, or with the process.
	Lock(name string) (io.Closer, error)
}

// File is an open file. Any goroutine may call its methods, but Read and Write only one at a
// time. A read of bytes that a write is just changing may return old, new or mixed ones.
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
	// Allocate reserves space for [off, off+n) and extends the file to it; new bytes read as
	// zero.
	Allocate(off, n int64) error
	// Sync makes data and all metadata durable, Datasync the data and the metadata that is
	// needed to read it. After a failure, bytes written since the last success may be lost,
	// and a later success on the same file does not mean that they are not: the kernel has
	// marked their pages clean.
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
