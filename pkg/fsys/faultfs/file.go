package faultfs

import (
	"errors"
	"io"
	"io/fs"
	"syscall"
	"time"
)

// file is an open handle; fs.mu guards what changes in it.
type file struct {
	fs       *FS
	name     string
	node     *node
	epoch    int // of fs, when it was opened
	readOnly bool
	appends  bool // opened with O_APPEND
	closed   bool
	at       int64 // where Read and Write go on
}

// begin locks the filesystem, counts an operation on the file, and returns how it is to fail.
// The caller unlocks, also after an error.
func (h *file) begin(op Op) error {
	h.fs.mu.Lock()
	if h.epoch != h.fs.epoch {
		return pathErr(op, h.name, ErrPower)
	}
	if h.closed {
		return pathErr(op, h.name, fs.ErrClosed)
	}
	if err := h.fs.step(op); err != nil {
		return pathErr(op, h.name, err)
	}
	if h.readOnly && op != Read && op != Sync {
		return pathErr(op, h.name, syscall.EBADF)
	}
	return nil
}

func (h *file) Name() string { return h.name }

func (h *file) Size() (int64, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.fs.off || h.epoch != h.fs.epoch {
		return 0, pathErr("stat", h.name, ErrPower)
	}
	return int64(len(h.node.data)), nil
}

func (h *file) ReadAt(p []byte, off int64) (int, error) {
	err := h.begin(Read)
	defer h.fs.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if off >= int64(len(h.node.data)) {
		return 0, io.EOF
	}
	n := copy(p, h.node.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (h *file) Read(p []byte) (int, error) {
	n, err := h.ReadAt(p, h.at)
	h.at += int64(n)
	if n > 0 {
		return n, nil // the next Read returns io.EOF
	}
	return 0, err
}

func (h *file) Write(p []byte) (int, error) {
	err := h.begin(Write)
	defer h.fs.mu.Unlock()
	if h.appends {
		h.at = int64(len(h.node.data))
	}
	n, err := h.write(p, h.at, err)
	h.at += int64(n)
	return n, err
}

func (h *file) WriteAt(p []byte, off int64) (int, error) {
	err := h.begin(Write)
	defer h.fs.mu.Unlock()
	if h.appends && err == nil {
		return 0, pathErr(Write, h.name, errors.New("WriteAt on a file opened with O_APPEND"))
	}
	return h.write(p, off, err)
}

// write does a write, or a random part of one that is to fail with err, and no more than there
// is space for; fs.mu is held.
func (h *file) write(p []byte, off int64, err error) (int, error) {
	if err != nil && (h.closed || h.epoch != h.fs.epoch || h.readOnly) {
		return 0, err
	}
	n := len(p)
	if err != nil {
		n = h.fs.rng.Intn(len(p) + 1)
	}
	grow := off + int64(n) - int64(len(h.node.data))
	if h.fs.space >= 0 && grow > h.fs.space {
		n -= int(min(grow-h.fs.space, int64(n)))
		grow = h.fs.space
		if err == nil {
			err = pathErr(Write, h.name, syscall.ENOSPC)
		}
	}
	if n > 0 {
		h.fs.changing(h.node, off, off+int64(n))
		if end := off + int64(n); end > int64(len(h.node.data)) {
			h.node.resize(end)
			h.use(grow)
		}
		copy(h.node.data[off:], p[:n])
	}
	return n, err
}

// use takes n bytes off the space that is left; fs.mu is held.
func (h *file) use(n int64) {
	if h.fs.space >= 0 {
		h.fs.space -= max(n, 0)
	}
}

func (h *file) ModTime() (time.Time, error) { return time.Time{}, nil }

func (h *file) Chmod(perm fs.FileMode) error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	h.node.perm = perm
	return nil
}

func (h *file) Chown(int, int) error { return nil }

func (h *file) Truncate(size int64) error {
	err := h.begin(Truncate)
	defer h.fs.mu.Unlock()
	if err != nil {
		return err
	}
	now := int64(len(h.node.data))
	if size < now {
		h.fs.changing(h.node, size, now)
		if h.fs.space >= 0 {
			h.fs.space += now - size
		}
	}
	h.node.resize(size)
	return nil
}

func (h *file) Allocate(off, n int64) error {
	err := h.begin(Allocate)
	defer h.fs.mu.Unlock()
	if err != nil {
		return err
	}
	grow := off + n - int64(len(h.node.data))
	if h.fs.space >= 0 && grow > h.fs.space {
		return pathErr(Allocate, h.name, syscall.ENOSPC)
	}
	if grow > 0 {
		h.use(grow)
		h.fs.changing(h.node, 0, 0)
		h.node.resize(off + n)
	}
	return nil
}

func (h *file) Sync() error     { return h.sync() }
func (h *file) Datasync() error { return h.sync() }

// sync makes the file durable. When it is to fail, some sectors reach the disk, and the others
// never do unless they are written again, whatever later syncs return.
func (h *file) sync() error {
	err := h.begin(Sync)
	defer h.fs.mu.Unlock()
	n := h.node
	if err == nil {
		n.undo, n.size, n.past = nil, int64(len(n.data)), nil
		return nil
	}
	if h.closed || h.epoch != h.fs.epoch || h.fs.off {
		return err
	}
	if n.lost == nil {
		n.lost = map[int64][]byte{}
	}
	for _, i := range sortedSectors(n.undo) {
		if h.fs.rng.Intn(2) == 0 {
			n.lost[i] = n.undo[i]
		}
	}
	n.undo, n.size, n.past = nil, int64(len(n.data)), nil
	return err
}

func (h *file) Close() error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.closed {
		return pathErr("close", h.name, fs.ErrClosed)
	}
	h.closed = true
	if h.epoch == h.fs.epoch {
		h.fs.open--
	}
	return nil
}

// Flip flips one bit of a file, durably, as a rotting disk does.
func (f *FS) Flip(name string, off int64, bit uint) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.nodes[name]
	n.data[off] ^= 1 << (bit % 8)
	if was := n.undo[off/Sector]; was != nil {
		was[off%Sector] ^= 1 << (bit % 8)
	}
}
