package faultfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// OpenFile implements fsys.FS.
func (f *FS) OpenFile(name string, flag int, perm fs.FileMode) (fsys.File, error) {
	name = filepath.Clean(name)
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.nodes[name]
	op := Open
	if n == nil && flag&os.O_CREATE != 0 {
		op = Create
	}
	if err := f.step(op); err != nil {
		return nil, pathErr(op, name, err)
	}
	switch {
	case n == nil && flag&os.O_CREATE == 0:
		return nil, pathErr(op, name, fs.ErrNotExist)
	case n != nil && flag&os.O_EXCL != 0:
		return nil, pathErr(op, name, fs.ErrExist)
	case n != nil && n.dir:
		return nil, pathErr(op, name, syscall.EISDIR)
	case n == nil:
		dir := filepath.Dir(name)
		if p := f.nodes[dir]; p == nil || !p.dir {
			return nil, pathErr(op, name, fs.ErrNotExist)
		}
		n = &node{perm: perm}
		f.change(dir, map[string]*node{name: n})
	}
	if flag&os.O_TRUNC != 0 {
		f.changing(n, 0, int64(len(n.data)))
		n.resize(0)
	}
	f.open++
	return &file{fs: f, name: name, node: n, epoch: f.epoch, readOnly: flag&(os.O_WRONLY|os.O_RDWR) == 0, appends: flag&os.O_APPEND != 0}, nil
}

// MkdirAll implements fsys.FS.
func (f *FS) MkdirAll(name string, perm fs.FileMode) error {
	name = filepath.Clean(name)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.step(Mkdir); err != nil {
		return pathErr(Mkdir, name, err)
	}
	var missing []string
	for at := name; f.nodes[at] == nil; at = filepath.Dir(at) {
		missing = append(missing, at)
	}
	for i := len(missing) - 1; i >= 0; i-- {
		f.change(filepath.Dir(missing[i]), map[string]*node{missing[i]: {dir: true, perm: perm}})
	}
	return nil
}

// Rename implements fsys.FS: both names change together, in a crash too.
func (f *FS) Rename(oldname, newname string) error {
	oldname, newname = filepath.Clean(oldname), filepath.Clean(newname)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.step(Rename); err != nil {
		return pathErr(Rename, oldname, err)
	}
	n := f.nodes[oldname]
	if n == nil {
		return pathErr(Rename, oldname, fs.ErrNotExist)
	}
	if filepath.Dir(oldname) != filepath.Dir(newname) {
		return pathErr(Rename, oldname, errors.New("faultfs renames within a folder only"))
	}
	f.change(filepath.Dir(newname), map[string]*node{oldname: nil, newname: n})
	return nil
}

// Remove implements fsys.FS.
func (f *FS) Remove(name string) error {
	name = filepath.Clean(name)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.step(Remove); err != nil {
		return pathErr(Remove, name, err)
	}
	n := f.nodes[name]
	if n == nil {
		return pathErr(Remove, name, fs.ErrNotExist)
	}
	if f.space >= 0 {
		f.space += int64(len(n.data))
	}
	f.change(filepath.Dir(name), map[string]*node{name: nil})
	return nil
}

// ReadDir implements fsys.FS.
func (f *FS) ReadDir(name string) ([]string, error) {
	name = filepath.Clean(name)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.step(ReadDir); err != nil {
		return nil, pathErr(ReadDir, name, err)
	}
	if n := f.nodes[name]; n == nil || !n.dir {
		return nil, pathErr(ReadDir, name, fs.ErrNotExist)
	}
	var names []string
	for _, path := range sortedNames(f.nodes) {
		if path != name && filepath.Dir(path) == name {
			names = append(names, filepath.Base(path))
		}
	}
	return names, nil
}

// Size implements fsys.FS.
func (f *FS) Size(name string) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.find("stat", name)
	if err != nil {
		return 0, err
	}
	return int64(len(n.data)), nil
}

// Stat implements fsys.FS.
func (f *FS) Stat(name string) (fs.FileInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.find("stat", name)
	if err != nil {
		return nil, err
	}
	return info{filepath.Base(name), int64(len(n.data)), n.perm, n.dir}, nil
}

// info is what Stat returns.
type info struct {
	name string
	size int64
	perm fs.FileMode
	dir  bool
}

func (i info) Name() string     { return i.name }
func (i info) Size() int64      { return i.size }
func (i info) IsDir() bool      { return i.dir }
func (info) ModTime() time.Time { return time.Time{} }
func (info) Sys() any           { return nil }
func (i info) Mode() fs.FileMode {
	if i.dir {
		return i.perm | fs.ModeDir
	}
	return i.perm
}

// Chmod implements fsys.FS. Modes are durable at once; owners and times are not kept.
func (f *FS) Chmod(name string, perm fs.FileMode) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.find("chmod", name)
	if err == nil {
		n.perm = perm
	}
	return err
}

// Chown implements fsys.FS.
func (f *FS) Chown(name string, _, _ int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.find("chown", name)
	return err
}

// Chtimes implements fsys.FS.
func (f *FS) Chtimes(name string, _, _ time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.find("chtimes", name)
	return err
}

// Space implements fsys.FS: what SetSpace has left, of 2 TiB.
func (f *FS) Space(string) (free, total uint64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.off:
		return 0, 0, ErrPower
	case f.space < 0:
		return 1 << 40, 1 << 41, nil
	}
	return uint64(f.space), 1 << 41, nil
}

// find returns the node of a path; f.mu is held.
func (f *FS) find(op Op, name string) (*node, error) {
	if f.off {
		return nil, ErrPower
	}
	n := f.nodes[filepath.Clean(name)]
	if n == nil {
		return nil, pathErr(op, name, fs.ErrNotExist)
	}
	return n, nil
}

// SyncDir implements fsys.FS.
func (f *FS) SyncDir(name string) error {
	name = filepath.Clean(name)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.step(SyncDir); err != nil {
		return pathErr(SyncDir, name, err)
	}
	rest := f.dirOps[:0]
	for _, op := range f.dirOps {
		if op.dir == name {
			f.apply(op)
		} else {
			rest = append(rest, op)
		}
	}
	f.dirOps = rest
	return nil
}

// Lock implements fsys.FS.
func (f *FS) Lock(name string) (io.Closer, error) {
	name = filepath.Clean(name)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.step(Lock); err != nil {
		return nil, pathErr(Lock, name, err)
	}
	if f.locks[name] {
		return nil, fmt.Errorf("%w by this process", fsys.ErrLocked)
	}
	f.locks[name] = true
	return &lock{f, name, f.epoch}, nil
}

// lock is a lock that is held; one of an earlier epoch is none any more.
type lock struct {
	fs    *FS
	name  string
	epoch int
}

func (l *lock) Close() error {
	l.fs.mu.Lock()
	defer l.fs.mu.Unlock()
	if l.epoch == l.fs.epoch {
		delete(l.fs.locks, l.name)
	}
	return nil
}
