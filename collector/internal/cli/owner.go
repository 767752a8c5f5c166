package cli

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// owner returns who a folder belongs to, where this process is root and that is somebody else,
// such as the collector's user.
func owner(dir string) (uid, gid int, other bool) {
	info, err := os.Stat(dir)
	if err != nil || os.Geteuid() != 0 {
		return 0, 0, false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Uid == 0 {
		return 0, 0, false
	}
	return int(st.Uid), int(st.Gid), true
}

// becomeOwner has root go on as the user whom a folder belongs to, for good. What it makes
// there is then that user's, who else could not read it; and it cannot be led by that user to
// make anything elsewhere.
func becomeOwner(dir string) error {
	uid, gid, other := owner(dir)
	if !other {
		return nil
	}
	if err := errors.Join(syscall.Setgroups([]int{gid}), syscall.Setgid(gid)); err != nil {
		return fmt.Errorf("go on as the owner of %s: %w", dir, err)
	}
	if err := syscall.Setuid(uid); err != nil {
		return fmt.Errorf("go on as the owner of %s: %w", dir, err)
	}
	return nil
}

// sayOwner says how a command works on a folder of somebody else's, where it was refused.
func sayOwner(err error, dir string) error {
	var unsafe *fsys.UnsafeError
	uid, _, other := owner(dir)
	if !other || !errors.As(err, &unsafe) {
		return err
	}
	name := "#" + strconv.Itoa(uid)
	if u, e := user.LookupId(strconv.Itoa(uid)); e == nil {
		name = u.Username
	}
	return fmt.Errorf("%s belongs to the user %s: run this as that user (runuser -u %s -- collector …), with an --out that it may write", dir, name, name)
}
