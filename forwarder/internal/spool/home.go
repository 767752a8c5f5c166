package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// home records whether the spool's folder and files are still where Open found them. Only
// keepHome writes it: in the syncer, and once in Close after the syncer has ended, so
// said needs no lock. Any goroutine may read the atomics.
type home struct {
	moved atomic.Uint64          // times something was found away
	away  atomic.Pointer[string] // why the spool is away; nil: it is in its place
	said  time.Time              // when that was last logged
}

// sayAway is how often the log repeats that the spool is still not in its place.
const sayAway = time.Minute

// Away returns why the spool could not be restored to its folder, "" when it is in its
// place. While it is away records are still appended and shipped, but those that are not
// acknowledged are lost when this process ends. Any goroutine may call it.
func (s *Spool) Away() string {
	if why := s.home.away.Load(); why != nil {
		return *why
	}
	return ""
}

// keepHome restores the spool in its folder when another program has removed, renamed or
// replaced the folder or files in it, and logs what it found. The syncer calls it, and
// Close after the syncer has ended.
func (s *Spool) keepHome() {
	moved, err := s.log.KeepHome()
	if err == nil {
		var of bool
		of, err = s.keepState()
		moved = moved || of
	}
	was := s.home.away.Load() != nil
	if moved && !was {
		s.home.moved.Add(1)
	}
	switch {
	case err != nil:
		why := err.Error()
		s.home.away.Store(&why)
		if now := s.opt.Now(); !was || now.Sub(s.home.said) >= sayAway {
			s.home.said = now
			s.hlg.Error("the spool's folder or files of it were removed, renamed or replaced by another program and can't be made again: records go on into files without a name, are shipped, and what is not acknowledged is gone when this program ends; mend what the error says, and the spool is put back",
				"dir", s.opt.Dir, "records", s.Left(), "error", err)
		}
	case moved:
		s.home.away.Store(nil)
		s.hlg.Warn("the spool's folder or files of it had been removed, renamed or replaced by another program: the spool is there again, with the records that wait; a folder or files that were moved away are not used any more, and may be removed",
			"dir", s.opt.Dir, "records", s.Left())
	case was:
		s.home.away.Store(nil)
		s.hlg.Info("the spool is in its place again", "dir", s.opt.Dir, "records", s.Left())
	}
}

// sayGone logs, when the spool closes away from its folder, how many records are lost with
// files that have no name.
func (s *Spool) sayGone() {
	if n := s.Left(); n > 0 && s.Away() != "" {
		s.hlg.Error("records that were not acknowledged are gone: the spool is not in its place, and the files that have them are lost with this program",
			"dir", s.opt.Dir, "records", n)
	}
}

// keepState writes a new state file when the open one is no longer the file of that name.
// moved says that it was not; with an error the old one, without a name, stays in use.
// It takes persisting.
func (s *Spool) keepState() (moved bool, err error) {
	s.persisting.Lock()
	defer s.persisting.Unlock()
	path := filepath.Join(s.opt.Dir, stateName)
	if named, err := fsys.Named(s.state.f, path); named || err != nil {
		return false, nil // what can't be told is taken for there
	}
	if err := s.opt.FS.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return true, fmt.Errorf("make the state file again: %w", err)
	}
	f, err := s.opt.FS.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return true, fmt.Errorf("make the state file again: %w", err)
	}
	s.mu.Lock()
	c := s.content()
	s.mu.Unlock()
	next := &stateFile{f: f, gen: s.state.gen}
	if err = next.write(c, true); err == nil {
		err = s.opt.FS.SyncDir(s.opt.Dir)
	}
	if err != nil {
		return true, errors.Join(fmt.Errorf("make the state file again: %w", err), next.close(), s.opt.FS.Remove(path))
	}
	_ = s.state.close() // it is no file of the spool's any more
	s.state = next
	s.noted.Store(c.acked)
	s.persisted.Store(c.acked)
	return true, nil
}
