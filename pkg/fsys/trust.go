package fsys

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// UnsafeError is returned for a file or folder that other users can change, so that they
// could choose what is read from it or which file is overwritten.
type UnsafeError struct {
	Path string
	Why  string
	Fix  string // what to do about it; may be empty
	Err  error  // the system's own, where there was one
}

// Unwrap returns Err.
func (e *UnsafeError) Unwrap() error { return e.Err }

// Error says which file, why, and what to do.
func (e *UnsafeError) Error() string {
	if e.Fix == "" {
		return e.Path + ": " + e.Why
	}
	return e.Path + ": " + e.Why + ": " + e.Fix
}

// OpenRegular opens a regular file as os.OpenFile does and refuses anything else. It never
// waits, not even when path is a FIFO. flag may hold unix.O_NOFOLLOW.
func OpenRegular(path string, flag int, perm fs.FileMode) (*os.File, error) {
	f, err := os.OpenFile(path, flag|unix.O_NONBLOCK|unix.O_NOCTTY, perm)
	switch {
	case errors.Is(err, unix.ELOOP) && flag&unix.O_NOFOLLOW != 0:
		return nil, &UnsafeError{Path: path, Why: "is a symbolic link", Fix: "put the file itself there", Err: err}
	case errors.Is(err, unix.ENXIO): // a FIFO that nobody reads, or a socket
		return nil, &UnsafeError{Path: path, Why: "is not a regular file"}
	case err != nil:
		return nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case info.IsDir():
		err = &UnsafeError{Path: path, Why: "is a directory"}
	case !info.Mode().IsRegular():
		err = &UnsafeError{Path: path, Why: "is not a regular file"}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// ReadRegular reads a regular file of at most most bytes; a longer one is an error.
func ReadRegular(path string, most int64) ([]byte, error) {
	f, err := OpenRegular(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	return readAll(f, most)
}

// OpenTrusted opens a file whose content this program obeys, such as a configuration. It
// must belong to root or this user and must not be writable for everybody (UnsafeError
// otherwise). flag may hold unix.O_NOFOLLOW.
func OpenTrusted(path string, flag int) (*os.File, error) {
	f, err := OpenRegular(path, os.O_RDONLY|flag, 0)
	if err != nil {
		return nil, err
	}
	if err := trusted(f, path, 0o002, "chmod 0640 "+path); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// ReadTrusted opens a file as OpenTrusted does and reads it; one longer than most bytes is
// an error.
func ReadTrusted(path string, most int64) ([]byte, error) {
	f, err := OpenTrusted(path, 0)
	if err != nil {
		return nil, err
	}
	return readAll(f, most)
}

// OpenOwn opens a file that only this program writes, such as a lock or its state. It must
// be no link of any kind, belong to root or this user, and be writable for nobody else.
func OpenOwn(path string, flag int, perm fs.FileMode) (*os.File, error) {
	f, err := OpenRegular(path, flag|unix.O_NOFOLLOW, perm)
	if err != nil {
		return nil, err
	}
	err = trusted(f, path, 0o022, "chmod go-w "+path)
	var st unix.Stat_t
	if err == nil {
		if err = unix.Fstat(int(f.Fd()), &st); err == nil && st.Nlink > 1 {
			err = &UnsafeError{Path: path, Why: "is a hard link: the file has another name", Fix: "look at it, and remove it"}
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// readAll reads a file of at most most bytes, and closes it.
func readAll(f *os.File, most int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = &UnsafeError{Path: f.Name(), Why: fmt.Sprintf("is larger than %d bytes", most)}
	}
	return b, errors.Join(err, f.Close())
}

// trusted returns an UnsafeError when f belongs neither to root nor to this user, or has one
// of the mode's bits in mask; fix says how to take these away.
func trusted(f *os.File, path string, mask uint32, fix string) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	switch {
	case foreign(st.Uid):
		return &UnsafeError{Path: path, Why: fmt.Sprintf("belongs to uid %d", st.Uid), Fix: "chown root " + path}
	case st.Mode&mask&0o002 != 0:
		return &UnsafeError{Path: path, Why: "is world-writable", Fix: fix}
	case st.Mode&mask != 0:
		return &UnsafeError{Path: path, Why: "its group may write it", Fix: fix}
	}
	return nil
}

// foreign reports whether a user is neither root nor this process's.
func foreign(uid uint32) bool { return uid != 0 && int(uid) != os.Geteuid() }

// CheckDir refuses, with an UnsafeError, a folder in which others could plant links: one
// that belongs neither to root nor to this user, or that is writable for everybody or for
// a group other than root's and this process's own. stickyToo allows a sticky folder that
// everybody may write (/tmp); the caller must then create only files with unique names.
func CheckDir(dir string, stickyToo bool) error {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: dir, Err: err}
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return &fs.PathError{Op: "open", Path: dir, Err: unix.ENOTDIR}
	case foreign(st.Uid):
		return &UnsafeError{Path: dir, Why: fmt.Sprintf("the folder belongs to uid %d, who could put links in the place of our files", st.Uid), Fix: "chown root " + dir + ", or choose another one"}
	case stickyToo && st.Mode&unix.S_ISVTX != 0:
	case st.Mode&0o002 != 0, st.Mode&0o020 != 0 && st.Gid != 0 && int(st.Gid) != os.Getegid():
		return &UnsafeError{Path: dir, Why: "others may write in the folder, and put links in the place of our files", Fix: "chmod go-w " + dir + ", or choose another one"}
	}
	return nil
}

// CheckLink refuses, with an UnsafeError, a symbolic link that belongs neither to root nor
// to this user: another user chose where it points to.
func CheckLink(path string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK && foreign(st.Uid) {
		return &UnsafeError{Path: path, Why: fmt.Sprintf("is a symbolic link of uid %d", st.Uid), Fix: "look at it, and remove it"}
	}
	return nil
}
