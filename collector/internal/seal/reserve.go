package seal

import (
	"errors"
	"os"
	"path/filepath"
)

// A day cannot be dropped before the log says so, and it is dropped to make room: so on a full disk the
// log needs some of its own. The file reserveName keeps it, and is removed when it is needed.
const (
	reserveName  = "reserve"
	reserveBytes = 256 << 10
)

// giveReserve frees the room that is kept; false where there is none.
func (t *Tree) giveReserve() bool {
	return t.fs.Remove(filepath.Join(t.dir, reserveName)) == nil
}

// keepReserve keeps room again, where there is any. A failure means only that there is none yet.
func (t *Tree) keepReserve() {
	path := filepath.Join(t.dir, reserveName)
	if n, err := t.fs.Size(path); err == nil && n == reserveBytes {
		return
	}
	f, err := t.fs.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return
	}
	_, err = f.WriteAt(make([]byte, reserveBytes), 0)
	if err = errors.Join(err, f.Datasync(), f.Close()); err != nil {
		_ = t.fs.Remove(path) // half of it is no use, and may be what fills the disk
	}
}
