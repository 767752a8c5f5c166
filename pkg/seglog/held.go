package seglog

import (
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// maxHeld bounds how many segments' files are kept open with Options.Hold.
const maxHeld = 512

// held is a segment's file that is kept open, so that its entries can be read also when
// somebody has removed or renamed it. The segment has it, and readers borrow it; who
// closes it last closes the file.
type held struct {
	fsys.File
	users atomic.Int32
}

// Close gives the file back.
func (h *held) Close() error {
	if h.users.Add(-1) > 0 {
		return nil
	}
	return h.File.Close()
}

// hold keeps the file of a segment open. One that can't be opened is not held: then its
// entries are read as long as it has its name.
func (l *Log) hold(seg *segment) {
	if !l.opt.Hold || len(*l.segments.Load()) > maxHeld {
		return
	}
	file, err := l.opt.FS.OpenFile(filepath.Join(l.opt.Dir, seg.name), os.O_RDONLY, 0)
	if err == nil {
		seg.keep(file)
	}
}

// keep has the segment hold a file in the place of the one before, if any; nil: none.
func (s *segment) keep(file fsys.File) {
	var h *held
	if file != nil {
		h = &held{File: file}
		h.users.Store(1)
	}
	s.mu.Lock()
	old := s.held
	s.held = h
	s.mu.Unlock()
	if old != nil {
		_ = old.Close() // only read
	}
}

// borrow returns the held file, to be closed; nil: none is held.
func (s *segment) borrow() *held {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held != nil {
		s.held.users.Add(1)
	}
	return s.held
}

// openSegment opens a segment's file to be read.
func openSegment(o Options, seg *segment) (fsys.File, error) {
	if h := seg.borrow(); h != nil {
		return h, nil
	}
	return o.FS.OpenFile(filepath.Join(o.Dir, seg.name), os.O_RDONLY, 0)
}
