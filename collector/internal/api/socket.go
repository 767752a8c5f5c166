package api

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/nss"
)

// maxSocketPath is the longest path that a sockaddr_un holds, without the NUL.
const maxSocketPath = 107

// Listen makes the query socket, which root, this user and, where one is named, a group may
// use. inStore says that the socket's folder is the store's: then the group may also enter that
// folder, though not list it. Listen returns the group's id, -1 for none. A socket that a
// collector left when it was killed is replaced.
func Listen(path, group string, inStore bool) (*net.UnixListener, int, error) {
	gid, err := Check(path, group)
	if err != nil {
		return nil, -1, err
	}
	mode := os.FileMode(0o600)
	if gid >= 0 {
		mode = 0o660
	}
	if err := fsys.CheckDir(filepath.Dir(path), true); err != nil {
		return nil, -1, fmt.Errorf("the query socket: %w", err)
	}
	if err := removeStale(path); err != nil {
		return nil, -1, err
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, -1, fmt.Errorf("make the query socket: %w", err)
	}
	// Until here the umask and the folder, which only we may write, keep others out.
	err = os.Chmod(path, mode)
	if err == nil && gid >= 0 {
		err = os.Chown(path, -1, gid)
	}
	if err == nil && gid >= 0 && inStore {
		dir := filepath.Dir(path)
		if err = os.Chown(dir, -1, gid); err == nil {
			err = os.Chmod(dir, 0o710)
		}
	}
	if err != nil {
		_ = ln.Close()
		return nil, -1, fmt.Errorf("let the right users ask: %w", err)
	}
	return ln, gid, nil
}

// Check looks at Listen's path and group without making anything, and returns the group's
// number, -1 for "".
func Check(path, group string) (gid int, err error) {
	gid = -1
	if group != "" {
		id, ok := nss.New(nss.Config{}).GroupID(group)
		if !ok {
			return -1, fmt.Errorf("api_group: there is no group %s: add it, or name another", group)
		}
		gid = int(id)
	}
	if len(path) > maxSocketPath {
		return -1, fmt.Errorf("the query socket's path has %d bytes, the system takes %d: choose a shorter one with --api: %s", len(path), maxSocketPath, path)
	}
	return gid, nil
}

// removeStale removes a socket that a collector left when it was killed. One that
// answers, and anything but a socket, stays.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the query socket: %w", err)
	}
	if info.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("%s is there and no socket: remove it, or choose another --api", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("a collector already answers on %s: stop it, or choose another --api", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("look at the query socket: %w", err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove a socket that was left behind: %w", err)
	}
	return nil
}
