package seglog

import (
	"errors"
	"fmt"
	"io"
	"math"
	"sync/atomic"
)

// View reads a log that another process may be writing, without its lock and without
// changing anything. It needs no Close; the caller closes its Readers.
type View struct {
	opt      Options
	segments atomic.Pointer[[]*segment] // a list is never changed; refresh replaces it
	folder   atomic.Pointer[folder]     // as refresh read it last
}

// OpenReadOnly returns a View of the log in o.Dir. It uses only FS, Dir, Kind and
// ReadBuffer of o. A folder without segments is an empty log.
func OpenReadOnly(o Options) (*View, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	v := &View{opt: o}
	if err := v.refresh(); err != nil {
		return nil, err
	}
	return v, nil
}

func (v *View) list() *[]*segment { return v.segments.Load() }
func (v *View) stable() uint64    { return math.MaxUint64 }
func (v *View) done() error       { return nil }

// refresh reads the folder again. Segments that the old list has, too, are kept with their
// points; when nothing has changed the list itself is kept.
func (v *View) refresh() error {
	var dir *folder
	var err error
	for range 10 {
		// A segment may be deleted between its listing and its opening.
		if dir, err = readFolder(v.opt); !isNotExist(err) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("read log %s: %w", v.opt.Dir, err)
	}
	v.folder.Store(dir)
	old := v.segments.Load()
	same := old != nil && len(*old) == len(dir.segments)
	for i, s := range dir.segments {
		s.end.Store(-1)
		if old == nil {
			continue
		}
		found := false
		for _, known := range *old {
			if known.gen == s.gen && known.name == s.name {
				dir.segments[i], found = known, true
			}
		}
		same = same && found
	}
	if !same {
		v.segments.Store(&dir.segments)
	}
	return nil
}

// First returns the first index of the oldest segment; 1 for an empty log.
func (v *View) First() uint64 {
	if list := *v.segments.Load(); len(list) > 0 {
		return list[0].first
	}
	return 1
}

// Reader returns a Reader that starts at the entry from, 0 for the first. It differs from
// a Log's Reader in one point: it can't tell what the writer has synced from what it has
// not. Errors: ErrTruncated.
func (v *View) Reader(from uint64) (*Reader, error) {
	if err := v.refresh(); err != nil {
		return nil, err
	}
	first := v.First()
	if from == 0 {
		from = first
	}
	if from < first {
		return nil, fmt.Errorf("read from entry %d, the first is %d: %w", from, first, ErrTruncated)
	}
	return newReader(v, v.opt, from), nil
}

// Missing returns what Options.Known lists and the folder lacks: segments in front and at
// the end, and entries up to Known.Last. next is the entry behind the last one that a Reader
// has found.
func (v *View) Missing(next uint64) []Damage {
	dir := v.folder.Load()
	var newest *segment
	if n := len(dir.segments); n > 0 {
		newest = dir.segments[n-1]
	}
	return dir.missing(v.opt.Known, newest, max(next, dir.next), 0)
}

// Last reads on to the present end and returns the index of the last entry,
// First-1 when there is none.
func (v *View) Last() (uint64, error) {
	last, _, err := v.End()
	return last, err
}

// End returns what Last returns, and the size in bytes of all segments, preallocated
// space at the end not counted.
func (v *View) End() (last uint64, size int64, err error) {
	if err := v.refresh(); err != nil {
		return 0, 0, err
	}
	list := *v.segments.Load()
	if len(list) == 0 {
		return 0, 0, nil
	}
	for _, seg := range list[:len(list)-1] {
		size += seg.size
	}
	last = list[len(list)-1].first - 1
	r, err := v.Reader(last + 1)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = r.Close() }()
	for {
		var damaged *CorruptError
		switch index, _, err := r.Next(); {
		case err == nil:
			last = index
		case errors.Is(err, io.EOF):
			return max(last, r.next-1), size + r.r.off, nil
		case errors.As(err, &damaged):
		default:
			return 0, 0, err
		}
	}
}
