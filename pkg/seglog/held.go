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
// somebody has removed or renamed it. The segment and each reader that has borrowed it count
// as a user; the last one to close it closes the file.
type held struct {
	fsys.File
	users atomic.Int32
}

// Close gives the file back: it must not be used any more.
func (h *held) Close() error {
	if h.users.Add(-1) > 0 {
		return nil
	}
	return h.File.Close()
}

// hold opens the file of a segment and keeps it open. A segment whose file can't be opened
// is not held: its entries can be read for as long as the file has its name.
func (l *Log) hold(seg *segment) {
	if !l.opt.Hold || len(*l.segments.Load()) > maxHeld {
		return
	}
	file, err := l.opt.FS.OpenFile(filepath.Join(l.opt.Dir, seg.name), os.O_RDONLY, 0)
	if err == nil {
		seg.setHeld(file)
	}
}

// setHeld has the segment hold file, nil for none, in place of the file that it held.
func (s *segment) setHeld(file fsys.File) {
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

// borrow returns the held file, which the caller must close; nil when none is held.
func (s *segment) borrow() *held {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held != nil {
		s.held.users.Add(1)
	}
	return s.held
}

// openSegment returns a segment's file to be read: the one that is held, else a new one. The
// caller closes it.
func openSegment(o Options, seg *segment) (fsys.File, error) {
	if h := seg.borrow(); h != nil {
		return h, nil
	}
	return o.FS.OpenFile(filepath.Join(o.Dir, seg.name), os.O_RDONLY, 0)
}
