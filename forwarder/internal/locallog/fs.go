package locallog

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// FS is what the log asks of the operating system; tests put a failing one in
// the place of OS.
type FS interface {
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	Rename(from, to string) error
	Remove(name string) error
	Stat(name string) (fs.FileInfo, error)
	// ReadDir returns the names in a folder, in any order.
	ReadDir(name string) ([]string, error)
	SyncDir(name string) error
	Chtimes(name string, atime, mtime time.Time) error
	MkdirAll(name string, perm fs.FileMode) error
	Chmod(name string, perm fs.FileMode) error
	Chown(name string, uid, gid int) error
	// Space returns how many bytes of the filesystem a file lies on are free for
	// root, and how many it has.
	Space(name string) (free, total uint64, err error)
}

// File is an open log file, opened for appending, or to be compressed.
type File interface {
	io.ReadWriteCloser
	ModTime() (time.Time, error)
	Size() (int64, error)
	Truncate(size int64) error
	Chmod(perm fs.FileMode) error
	Chown(uid, gid int) error
	Sync() error
	Datasync() error
}

// OS is the real filesystem.
type OS struct{}

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f osFile) ModTime() (time.Time, error) {
	info, err := f.Stat()
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

func (f osFile) Datasync() error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return err
		}
	}
}

// OpenFile implements FS. A symbolic link in the log's place is refused.
func (OS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := fsys.OpenRegular(name, flag|unix.O_NOFOLLOW, perm)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// Rename implements FS.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// Remove implements FS.
func (OS) Remove(name string) error { return os.Remove(name) }

// Stat implements FS.
func (OS) Stat(name string) (fs.FileInfo, error) { return os.Stat(name) }

// ReadDir implements FS.
func (OS) ReadDir(name string) ([]string, error) {
	d, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	return names, errors.Join(err, d.Close())
}

// SyncDir implements FS.
func (OS) SyncDir(name string) error { return fsys.OS.SyncDir(name) }

// Chtimes implements FS.
func (OS) Chtimes(name string, atime, mtime time.Time) error { return os.Chtimes(name, atime, mtime) }

// MkdirAll implements FS.
func (OS) MkdirAll(name string, perm fs.FileMode) error { return os.MkdirAll(name, perm) }

// Chmod implements FS.
func (OS) Chmod(name string, perm fs.FileMode) error { return os.Chmod(name, perm) }

// Chown implements FS.
func (OS) Chown(name string, uid, gid int) error { return os.Chown(name, uid, gid) }

// Space implements FS. What is reserved for root is not free, as for the stock daemon
// (ext4 sets 5 % aside): the others' writes fail when the rest is used up.
func (OS) Space(name string) (free, total uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(name, &st); err != nil {
		return 0, 0, &os.PathError{Op: "statfs", Path: name, Err: err}
	}
	return st.Bavail * uint64(st.Bsize), st.Blocks * uint64(st.Bsize), nil
}
