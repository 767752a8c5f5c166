package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/lines"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// serialFile stores the highest event serial that was handed on, so that the next run can
// tell which events the kernel made while no forwarder ran, after a stop as after a
// SIGKILL. It is one line of fixed length, written in place and never synced: a serial
// means something only until the machine starts again, and until then the page cache
// keeps it. FORMAT.md describes the line. The pump alone uses it.
//
// The stream announces the serials missing between two runs only when they can't come any
// more, some 20 s after the start. Until then the file keeps them, too; otherwise a
// forwarder that is killed again and again would never announce them.
type serialFile struct {
	path string
	f    fsys.Locked
	boot string
	away bool // the file has lost its name, which keepName has told

	begun   bool
	changed bool
	failed  bool // a write did, and is not tried again
	last    uint32
	line    []byte

	carried kernel.SerialGaps // of earlier runs, not said yet
	// between is whether what is missing between was.Serial and least, the lowest
	// serial of this run, is not said yet.
	between bool
	was     kernel.LastSerial
	least   uint32
}

const (
	serialHeader = "auditfleet-serial 1"
	// boot, last serial and when; what is missing and not said: how many, the first
	// and the last, and from when on. Times are nanoseconds since 1970.
	serialFormat = serialHeader + " %s %010d %019d %010d %010d %010d %019d\n"
)

// openSerialFile opens the file and returns what it says of the present boot, nil when it
// says nothing. It does not change a file that does not begin with serialHeader.
func openSerialFile(path, boot string) (*serialFile, *kernel.LastSerial, error) {
	if err := fsys.CheckDir(filepath.Dir(path), false); err != nil {
		return nil, nil, fmt.Errorf("--state: %w", err)
	}
	f, err := lockedSerialFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("--state: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(f, 256))
	if err == nil && len(bytes.Trim(text, "\x00")) > 0 && !bytes.HasPrefix(text, []byte(serialHeader+" ")) {
		err = fmt.Errorf("--state: %s: %w: name another file, or remove it", path, lines.ErrStateFile)
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	s := &serialFile{path: path, f: f, boot: boot}
	var b string
	var at, since int64
	g := &s.carried
	n, _ := fmt.Sscanf(string(text), serialFormat, &b, &s.last, &at, &g.Count, &g.First, &g.Last, &since)
	if n != 7 || b != boot {
		s.carried = kernel.SerialGaps{}
		return s, nil, nil
	}
	if g.Count > 0 {
		g.Since, g.Before = time.Unix(0, since), time.Unix(0, at)
	}
	s.begun, s.least = true, s.last
	s.was = kernel.LastSerial{Serial: s.last, At: time.Unix(0, at), Unsaid: s.carried}
	was := s.was // which announced changes
	return s, &was, nil
}

func lockedSerialFile(path string) (fsys.Locked, error) {
	f, err := fsys.OpenOwn(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fsys.Locked{}, err
	}
	if err := fsys.TryLock(f, true); err != nil {
		if errors.Is(err, fsys.ErrLocked) {
			err = fmt.Errorf("%w: another forwarder uses it, give this one a file of its own", fsys.ErrLocked)
		}
		return fsys.Locked{}, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return fsys.Locked{File: f}, nil
}

// keepName creates the file again when another program has removed or renamed it, or its
// folder. fresh says that this, or its failure, was not reported before.
func (s *serialFile) keepName() (fresh bool, err error) {
	if s == nil || s.f.File == nil {
		return false, nil
	}
	if named, err := fsys.Named(s.f.File, s.path); named || err != nil {
		s.away = s.away && err != nil
		return false, nil // what can't be told is taken for there
	}
	fresh, s.away = !s.away, true
	if info, err := os.Lstat(s.path); err == nil && info.Size() > 0 {
		return fresh, fmt.Errorf("--state: %s: another file has its place: %w", s.path, lines.ErrStateFile)
	}
	dir := filepath.Dir(s.path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fresh, fmt.Errorf("--state: %w", err)
	}
	if err := fsys.CheckDir(dir, false); err != nil {
		return fresh, fmt.Errorf("--state: %w", err)
	}
	f, err := lockedSerialFile(s.path)
	if err != nil {
		return fresh, fmt.Errorf("--state: %w", err)
	}
	_ = s.f.Close() // nobody can find it
	s.f, s.away, s.failed = f, false, false
	if len(s.line) > 0 {
		_, err = s.f.WriteAt(s.line, 0)
	}
	return true, err
}

// add records the serials of a block that is about to be handed on; save writes them later.
func (s *serialFile) add(b *kernel.Block) {
	if s == nil || s.failed {
		return
	}
	for i := range b.Len() {
		if serial, ok := kernel.SerialOf(b.Record(i).Text); ok {
			s.addSerial(serial)
		}
	}
}

func (s *serialFile) addSerial(serial uint32) {
	switch after := int32(serial - s.was.Serial); {
	case s.was.At.IsZero() || after <= 0:
	case s.least == s.was.Serial: // the first of this run
		s.between, s.least = after > 1, serial
	case s.between && int32(serial-s.least) < 0:
		s.between, s.least, s.changed = after > 1, serial, true
	}
	if !s.begun || int32(serial-s.last) > 0 {
		s.begun, s.changed, s.last = true, true, serial
	}
}

// announced records that the stream now announces these gaps: save no longer keeps them.
func (s *serialFile) announced(g kernel.SerialGaps) {
	if s == nil {
		return
	}
	if s.carried.Count > 0 && g.First == s.carried.First {
		s.carried, s.changed = kernel.SerialGaps{}, true
	}
	switch {
	case !s.between || int32(g.Last-s.was.Serial) <= 0:
	case int32(g.Last-(s.least-1)) >= 0:
		s.between, s.changed = false, true
	default: // a part of it
		s.was, s.changed = kernel.LastSerial{Serial: g.Last, At: g.Before}, true
	}
}

// save writes the line when it has changed. The pump must call it only after it has handed
// on the records of which the line tells.
func (s *serialFile) save(now time.Time) error {
	if s == nil || !s.changed || s.failed {
		return nil
	}
	s.changed = false
	g := s.carried
	if s.between {
		g.Join(kernel.SerialGaps{Count: uint64(s.least - s.was.Serial - 1), First: s.was.Serial + 1, Last: s.least - 1, Since: s.was.At, Before: now})
	}
	since := int64(0)
	if g.Count > 0 {
		since = g.Since.UnixNano()
	}
	s.line = fmt.Appendf(s.line[:0], serialFormat, s.boot, s.last, now.UnixNano(), g.Count, g.First, g.Last, since)
	_, err := s.f.WriteAt(s.line, 0)
	s.failed = err != nil
	return err
}

func (s *serialFile) close() error {
	if s == nil {
		return nil
	}
	return s.f.Close()
}
