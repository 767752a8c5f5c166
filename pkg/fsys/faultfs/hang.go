package faultfs

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// Hang is a filesystem of which whatever changes it can be made not to return, as that of a disk that
// hangs, or one that is frozen. Reading goes on.
type Hang struct {
	fsys.FS
	Only string // hangs for files whose names begin so; set before it is used

	mu      sync.Mutex
	wake    *sync.Cond // of mu: hangs has changed, or waiting has
	hangs   bool
	waiting int
}

// NewHang returns a filesystem that is as f until Freeze.
func NewHang(f fsys.FS) *Hang {
	h := &Hang{FS: f}
	h.wake = sync.NewCond(&h.mu)
	return h
}

// Freeze has every change wait until Thaw.
func (h *Hang) Freeze() { h.set(true) }

// Thaw ends Freeze.
func (h *Hang) Thaw() { h.set(false) }

func (h *Hang) set(hangs bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hangs = hangs
	h.wake.Broadcast()
}

// Waiting returns how many calls do not return.
func (h *Hang) Waiting() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.waiting
}

func (h *Hang) wait(name string) {
	if !strings.HasPrefix(filepath.Base(name), h.Only) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waiting++
	for h.hangs {
		h.wake.Wait()
	}
	h.waiting--
}

// OpenFile implements fsys.FS.
func (h *Hang) OpenFile(name string, flag int, perm fs.FileMode) (fsys.File, error) {
	if flag&(os.O_CREATE|os.O_TRUNC) != 0 {
		h.wait(name)
	}
	f, err := h.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &hangFile{f, h}, nil
}

// MkdirAll implements fsys.FS.
func (h *Hang) MkdirAll(name string, perm fs.FileMode) error {
	h.wait(name)
	return h.FS.MkdirAll(name, perm)
}

// Rename implements fsys.FS.
func (h *Hang) Rename(oldname, newname string) error {
	h.wait(newname)
	return h.FS.Rename(oldname, newname)
}

// Remove implements fsys.FS.
func (h *Hang) Remove(name string) error {
	h.wait(name)
	return h.FS.Remove(name)
}

// SyncDir implements fsys.FS.
func (h *Hang) SyncDir(name string) error {
	h.wait(name)
	return h.FS.SyncDir(name)
}

type hangFile struct {
	fsys.File
	h *Hang
}

func (f *hangFile) Write(p []byte) (int, error) {
	f.h.wait(f.Name())
	return f.File.Write(p)
}

func (f *hangFile) WriteAt(p []byte, off int64) (int, error) {
	f.h.wait(f.Name())
	return f.File.WriteAt(p, off)
}

func (f *hangFile) Truncate(size int64) error {
	f.h.wait(f.Name())
	return f.File.Truncate(size)
}

func (f *hangFile) Allocate(off, n int64) error {
	f.h.wait(f.Name())
	return f.File.Allocate(off, n)
}

func (f *hangFile) Sync() error {
	f.h.wait(f.Name())
	return f.File.Sync()
}

func (f *hangFile) Datasync() error {
	f.h.wait(f.Name())
	return f.File.Datasync()
}
