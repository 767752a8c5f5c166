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
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// lockDir takes the folder's lock: a server's excludes all others, readers share.
// A server in the way is known at once; readers, which will not be long, are waited
// for. To read a folder without a lock file (a copy on read-only media) needs none.
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

// serves says whether a server has the lock that f has not.
func serves(f *os.File) bool {
	// With readers only, the lock could be shared. It is not kept.
	if fsys.TryLock(f, false) != nil {
		return true
	}
	_ = unix.Flock(int(f.Fd()), unix.LOCK_UN) // of a lock that is held it cannot fail
	return false
}

// InUse says whether a server has the store now, and which.
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

// holder says who has the lock and what to do. A server's pid is in the file;
// it stays there after a crash, so it counts only while the process lives.
func holder(f *os.File) string {
	b := make([]byte, 32)
	n, _ := f.ReadAt(b, 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err == nil && pid > 0 && unix.Kill(pid, 0) != unix.ESRCH {
		return fmt.Sprintf("by pid %d: ask it through its socket, or stop it", pid)
	}
	return "by a command that reads it: wait for it to end"
}
