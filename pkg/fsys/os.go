package fsys

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// OS is the operating system's filesystem.
var OS FS = osFS{}

type osFS struct{}

type osFile struct{ *os.File }

func (osFS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := OpenRegular(name, flag|unix.O_NOFOLLOW, perm)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) MkdirAll(name string, perm fs.FileMode) error {
	if err := os.MkdirAll(name, perm); err != nil {
		return err
	}
	return CheckDir(name, false)
}

func (osFS) Rename(oldname, newname string) error      { return os.Rename(oldname, newname) }
func (osFS) Remove(name string) error                  { return os.Remove(name) }
func (osFS) Stat(name string) (fs.FileInfo, error)     { return os.Stat(name) }
func (osFS) Chmod(name string, perm fs.FileMode) error { return os.Chmod(name, perm) }
func (osFS) Chown(name string, uid, gid int) error     { return os.Chown(name, uid, gid) }
func (osFS) Chtimes(name string, atime, mtime time.Time) error {
	return os.Chtimes(name, atime, mtime)
}

func (osFS) ReadDir(name string) ([]string, error) {
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

func (osFS) Size(name string) (int64, error) {
	info, err := os.Stat(name)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Space returns what others than root may use: ext4 reserves 5 % for root, and the writes of
// everybody else fail when the rest is used up.
func (osFS) Space(name string) (free, total uint64, err error) {
	var st unix.Statfs_t
	for {
		err := unix.Statfs(name, &st)
		if err == nil {
			return st.Bavail * uint64(st.Frsize), st.Blocks * uint64(st.Frsize), nil
		}
		if !errors.Is(err, unix.EINTR) {
			return 0, 0, &fs.PathError{Op: "statfs", Path: name, Err: err}
		}
	}
}

func (osFS) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, unix.EINVAL) {
		err = nil // the filesystem cannot sync folders
	}
	return errors.Join(err, d.Close())
}

// Lock uses flock(2), which the kernel drops when the process dies in whatever
// way, and writes the holder's pid into the file for the next one's message.
func (osFS) Lock(name string) (io.Closer, error) {
	f, err := OpenOwn(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := TryLock(f, true); err != nil {
		defer f.Close()
		if errors.Is(err, ErrLocked) {
			return nil, fmt.Errorf("%w by %s", ErrLocked, holder(f))
		}
		return nil, err
	}
	// The pid is for people; a full disk must not keep the log from opening.
	_ = f.Truncate(0)
	_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return Locked{f}, nil
}

// Locked is a file whose lock ends with Close. Closing alone does not end it at once: a
// program that is being started holds a copy of every open file for a moment, and the
// lock with it, so whoever opens the folder next would be told that it is in use.
type Locked struct{ *os.File }

// Close gives the lock back, then closes the file.
func (l Locked) Close() error {
	_ = ignoringEINTR(l.File, func(fd int) error { return unix.Flock(fd, unix.LOCK_UN) }) // of a lock that is held it cannot fail
	return l.File.Close()
}

// TryLock locks an open file with flock(2), exclusively or shared with other readers. It
// does not wait: it returns ErrLocked while another open file holds a lock that conflicts.
// The lock ends with the process, or when every copy of the file is closed (see Locked).
func TryLock(f *os.File, exclusive bool) error {
	how := unix.LOCK_SH | unix.LOCK_NB
	if exclusive {
		how = unix.LOCK_EX | unix.LOCK_NB
	}
	err := ignoringEINTR(f, func(fd int) error { return unix.Flock(fd, how) })
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EWOULDBLOCK):
		return ErrLocked
	}
	return &fs.PathError{Op: "flock", Path: f.Name(), Err: err}
}

// holder names the process that wrote its pid into a lock file.
func holder(f *os.File) string {
	buf := make([]byte, 32)
	n, _ := f.ReadAt(buf, 0)
	pid, err := strconv.Atoi(string(bytes.TrimSpace(buf[:n])))
	if err != nil || pid <= 0 {
		return "another process"
	}
	if pid == os.Getpid() {
		return "this process (" + strconv.Itoa(pid) + ")"
	}
	comm, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "comm"))
	if err != nil {
		return "process " + strconv.Itoa(pid)
	}
	return "process " + strconv.Itoa(pid) + " (" + strings.TrimSpace(string(comm)) + ")"
}

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

func (f osFile) Allocate(off, n int64) error {
	err := ignoringEINTR(f.File, func(fd int) error { return unix.Fallocate(fd, 0, off, n) })
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
		return ErrUnsupported
	}
	return &fs.PathError{Op: "fallocate", Path: f.Name(), Err: err}
}

func (f osFile) Datasync() error {
	if err := ignoringEINTR(f.File, unix.Fdatasync); err != nil {
		return &fs.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
	}
	return nil
}

// Removed reports whether the file has no name any more: it is gone, with all that is written
// to it, when it is closed.
func (f osFile) Removed() bool {
	st, name := new(unix.Statx_t), new(byte)
	gone := false
	_ = ignoringEINTR(f.File, func(fd int) error { // of an open file it does not fail
		// Not fstat, which asks for the file's times, too: the kernel then writes new ones
		// with the next byte, and the sync after that takes a third longer. It asks no server, so it
		// waits for nothing, and the runtime need not be told of it: see Syncer.
		_, _, errno := unix.RawSyscall6(unix.SYS_STATX, uintptr(fd), uintptr(unsafe.Pointer(name)), unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_NLINK, uintptr(unsafe.Pointer(st)), 0)
		gone = errno == 0 && st.Mask&unix.STATX_NLINK != 0 && st.Nlink == 0
		return nil
	})
	return gone
}

// ignoringEINTR repeats a call that a signal interrupted. It holds the
// descriptor open meanwhile, so a concurrent Close cannot make it another file's.
func ignoringEINTR(f *os.File, call func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var callErr error
	err = raw.Control(func(fd uintptr) {
		for {
			if callErr = call(int(fd)); !errors.Is(callErr, unix.EINTR) {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	return callErr
}
