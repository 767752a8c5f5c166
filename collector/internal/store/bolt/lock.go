package bolt

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	lockholder "github.com/auditfleet/auditfleet/internal/holder"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// lockDir takes the folder's lock: exclusive for a server, shared for readers. It waits
// for readers, at most wait, since they are soon done; a server that has the lock is an
// ErrInUse at once. A folder without a lock file (a copy on read-only media) can be read
// without one. Closing what it returns gives the lock back.
func lockDir(path string, exclusive bool, wait time.Duration) (io.Closer, error) {
	open, flag := fsys.OpenRegular, os.O_RDONLY|unix.O_NOFOLLOW
	if exclusive {
		open, flag = fsys.OpenOwn, os.O_RDWR|os.O_CREATE
	}
	f, err := open(path, flag, 0o600)
	if !exclusive && errors.Is(err, fs.ErrNotExist) {
		return io.NopCloser(nil), nil
	}
	if err != nil {
		return nil, err
	}
	for until := time.Now().Add(wait); ; time.Sleep(20 * time.Millisecond) {
		err := fsys.TryLock(f, exclusive)
		if err == nil {
			break
		}
		if !errors.Is(err, fsys.ErrLocked) || time.Now().After(until) || !exclusive || serves(f) {
			who := holder(f)
			if exclusive && errors.Is(err, fsys.ErrLocked) && !serves(f) { // whatever pid a server left in there
				_, by := lockholder.Of(path)
				who = fmt.Sprintf("by a command that reads it, %s: it was waited for %v; wait for it to end, or end it", by, max(wait, 0).Round(time.Second))
			}
			_ = f.Close() // nothing was written
			if errors.Is(err, fsys.ErrLocked) {
				return nil, fmt.Errorf("%w %s", store.ErrInUse, who)
			}
			return nil, err
		}
	}
	if exclusive {
		if err := f.Truncate(0); err == nil {
			_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
			if err != nil && !fsys.NoRoom(err) {
				return nil, errors.Join(err, f.Close())
			}
		}
	}
	return fsys.Locked{File: f}, nil
}

// serves reports whether it is a server that has the lock: with readers only, it could be
// shared. f does not keep the lock.
func serves(f *os.File) bool {
	if fsys.TryLock(f, false) != nil {
		return true
	}
	_ = unix.Flock(int(f.Fd()), unix.LOCK_UN) // of a lock that is held it cannot fail
	return false
}

// InUse reports whether a server has the store in dir now, and in words which one.
func InUse(dir string) (who string, used bool, err error) {
	lock, err := lockDir(filepath.Join(dir, layout.LockName), false, -1)
	if errors.Is(err, store.ErrInUse) {
		who, _, _ = strings.Cut(strings.TrimPrefix(err.Error(), store.ErrInUse.Error()+" "), ":") // what to do is for those who need the lock
		return who, true, nil
	}
	if err != nil {
		return "", false, err
	}
	return "", false, lock.Close()
}

// holder returns who has the lock and what to do about it, for an error. A server writes
// its pid into the file, where it stays after a crash: it counts only while a process has
// that pid.
func holder(f *os.File) string {
	b := make([]byte, 32)
	n, _ := f.ReadAt(b, 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err == nil && pid > 0 && unix.Kill(pid, 0) != unix.ESRCH {
		return fmt.Sprintf("by pid %d: ask it through its socket, or stop it", pid)
	}
	return "by a command that reads it: wait for it to end"
}
