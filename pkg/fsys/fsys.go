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
)

// ErrLocked is returned by FS.Lock when somebody else holds the lock. The error
// that wraps it says who.
var ErrLocked = errors.New("locked")

// ErrUnsupported is returned by File.Allocate where the filesystem cannot set
// space aside. The caller goes on without.
var ErrUnsupported = errors.ErrUnsupported

// FS is what storage code may ask of a filesystem. Names are paths as the os
// package takes them. All methods may be called at once.
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
	// Size returns a file's length in bytes.
	Size(name string) (int64, error)
	// SyncDir makes the entries of a folder durable: what was created, renamed
	// or removed there before the call.
	SyncDir(name string) error
	// Lock takes an exclusive lock on the file name, which it creates, without
	// waiting. It ends with Close or with the process. ErrLocked when held.
	Lock(name string) (io.Closer, error)
}

// File is an open file. Only positional reads and writes: the log keeps its own
// offsets. Methods may be called at once; what a read sees of a write that is
// under way is undefined.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Name() string
	Size() (int64, error)
	Truncate(size int64) error
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
