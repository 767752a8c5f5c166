package seglog

import (
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// source is what a Reader reads from: a Log, or a View of another's folder.
type source interface {
	// list returns the segments, oldest first; a slice that is never changed.
	list() *[]*segment
	// refresh looks for what another process has done since.
	refresh() error
	// stable returns the index up to which nobody writes bytes any more; MaxUint64 where
	// another process writes and that cannot be told.
	stable() uint64
	// done returns why nothing more can be read, nil when it can.
	done() error
}

func (l *Log) list() *[]*segment { return l.segments.Load() }
func (l *Log) refresh() error    { return nil }
func (l *Log) stable() uint64    { return l.synced.Load() }
func (l *Log) done() error {
	if l.shut.Load() {
		return ErrClosed
	}
	return nil
}

// Reader returns entries in the order of their indexes. It belongs to one goroutine, which
// must close it. It has its own file and offset and may run beside Append, Sync and
// TruncateFront.
type Reader struct {
	src     source
	opt     Options
	next    uint64       // the entry to be returned next
	listed  *[]*segment  // the list that seg and after are of
	seg     *segment     // the one being read; nil before the first, and between two
	after   *segment     // seg's successor in listed
	file    fsys.File    // of seg
	r       *frameReader // of file
	reach   uint64       // behind a damaged place: the highest index that the next entry may have
	checked int          // how often bad bytes at the present place were read again
	end     int64        // where seg's bytes ended when that was last asked
}

// Reader returns a Reader that starts at the entry from (0: the first in the log). It
// reads all written entries, synced or not. Errors: ErrTruncated, ErrBeyond, ErrClosed.
func (l *Log) Reader(from uint64) (*Reader, error) {
	if err := l.done(); err != nil {
		return nil, err
	}
	if from == 0 {
		from = l.First()
	}
	if first := l.First(); from < first {
		return nil, fmt.Errorf("read from entry %d, the first is %d: %w", from, first, ErrTruncated)
	}
	if last := l.Last(); from > last+1 {
		return nil, fmt.Errorf("read from entry %d, the last is %d: %w", from, last, ErrBeyond)
	}
	return newReader(l, l.opt, from), nil
}

// newReader returns a Reader that opens its first segment with the first Next.
func newReader(src source, o Options, from uint64) *Reader {
	return &Reader{src: src, opt: o, next: from}
}

// Next returns the next entry; its payload is valid until the next call. At the present
// end it returns io.EOF and may be called again later. Indexes jump where entries are
// lost: silently where Open found the damage, and after one *CorruptError where bytes
// were damaged since. ErrTruncated: TruncateFront has deleted the next entry.
func (r *Reader) Next() (index uint64, payload []byte, err error) {
	for {
		if err := r.src.done(); err != nil {
			return 0, nil, err
		}
		if list := r.src.list(); list != r.listed {
			r.adopt(list)
		}
		if r.after != nil && r.next >= r.after.first {
			r.leave()
		}
		if r.seg == nil {
			if err := r.enter(); err != nil {
				return 0, nil, err
			}
		}
		at := r.r.off
		f, state, err := r.r.next(r.end)
		if err != nil {
			return 0, nil, fmt.Errorf("%s: %w", r.seg.name, err)
		}
		if state == scanFrame {
			if r.fits(f) {
				r.checked = 0
				if f.typ != frameEntry || f.index < r.next {
					continue
				}
				first := r.next
				r.next, r.reach = f.index, 0
				if f.index > first { // the rest of what a damaged place has cost
					r.r.seek(at)
					return 0, nil, r.corrupt(at, first, f.index-1)
				}
				r.next++
				return f.index, f.payload, nil
			}
			r.r.seek(at)
			state = scanBad // a frame that cannot be here
		}
		if again, err := r.stopped(at, state); !again {
			return 0, nil, err
		}
	}
}

// fits reports whether a valid frame can be at the present place: an entry with a later
// index than the next can only be behind a damaged place. A gap moves next behind it.
func (r *Reader) fits(f frame) bool {
	switch f.typ {
	case frameEntry:
		return f.index <= max(r.next, r.reach)
	case frameGap:
		if f.index >= r.next {
			r.next, r.reach = f.index+1, 0
		}
	}
	return true
}

// stopped decides what to do where no frame can be read. It returns true when Next is to try
// again: more bytes have come, or the next segment follows. Else err is what Next returns:
// io.EOF at the present end, or damage.
func (r *Reader) stopped(at int64, state scanState) (again bool, err error) {
	// The order matters: a segment is complete before its successor shows up,
	// so a successor seen before the end was looked at makes that end final.
	list := r.src.list()
	end, err := r.limit()
	if err != nil {
		return false, err
	}
	if list != r.listed {
		r.adopt(list)
		return true, nil
	}
	if end > r.end {
		r.end = end
		r.r.seek(at)
		return true, nil
	}
	r.end = end
	if at >= end || (state != scanBad && r.seg.end.Load() < 0) {
		if r.after != nil {
			return r.moveOn(at, end)
		}
		if err := r.src.refresh(); err != nil {
			return false, err
		}
		if r.src.list() != list {
			return true, nil
		}
		r.r.seek(at)
		return false, io.EOF
	}
	if r.checked == 0 {
		// What was read ahead may be older than what is there now.
		r.checked++
		r.r.seek(at)
		return true, nil
	}
	return r.damaged(at, end)
}

// limit returns where the present segment's bytes end now: behind the last frame written, or
// with the file where another process writes it.
func (r *Reader) limit() (int64, error) {
	if end := r.seg.end.Load(); end >= 0 {
		return end, nil
	}
	size, err := r.file.Size()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", r.seg.name, err)
	}
	return size, nil
}

// moveOn goes to the next segment, from at, where the present one ends. Entries that are
// missing in between are an error, once.
func (r *Reader) moveOn(at, end int64) (bool, error) {
	next := r.after.first
	if r.next < next && (*r.listed)[0].gen > r.seg.gen {
		r.leave() // deleted, and the next one too: enter says so
		return true, nil
	}
	if r.seg.end.Load() < 0 {
		// Another process's segment: zeroes before its end are damage.
		if data, err := lastByte(r.file, min(at, end), end); err != nil {
			return false, err
		} else if data > at {
			return r.damaged(at, end)
		}
	}
	var err error
	if r.next < next {
		err = r.corrupt(at, r.next, next-1)
		r.next = next
	}
	r.leave()
	return err == nil, err
}

// damaged skips bytes that are no frame, up to the next valid frame or the next segment, and
// returns what that costs. Bytes that may be in the middle of a write are io.EOF instead.
func (r *Reader) damaged(at, end int64) (bool, error) {
	if r.after == nil && r.next > r.src.stable() {
		r.r.seek(at)
		r.checked = 0
		return false, io.EOF // being written
	}
	data, err := lastByte(r.file, at, end)
	if err != nil {
		return false, fmt.Errorf("%s: %w", r.seg.name, err)
	}
	pos, f, ok, err := findFrame(r.file, r.seg.seed, at, data, end, r.next)
	if err != nil && !errors.Is(err, errTooOdd) {
		return false, fmt.Errorf("%s: %w", r.seg.name, err)
	}
	if ok && r.checked == 1 {
		// Bytes are written in order: now that later ones are seen to be there,
		// these must be, if another process was just writing them.
		r.checked++
		r.r.seek(at)
		return true, nil
	}
	r.checked = 0
	if ok {
		// A mark tells little; the entry behind it tells the rest by its index.
		last := f.index
		if f.typ == frameEntry {
			last--
		}
		first := r.next
		r.reach = r.next + uint64((pos-at)/frameHead)
		r.next = max(r.next, last+1)
		r.r.seek(pos)
		return false, r.corrupt(at, first, r.next-1)
	}
	if r.after == nil {
		last := r.src.stable()
		if last == math.MaxUint64 {
			r.r.seek(at)
			return false, io.EOF // the end of a write that was cut off or goes on
		}
		first := r.next
		r.next = max(r.next, last+1)
		r.r.seek(end)
		return false, r.corrupt(at, first, last)
	}
	first := r.next
	r.next = max(r.next, r.after.first)
	err = r.corrupt(at, first, r.next-1)
	r.leave()
	return false, err
}

// corrupt returns the error for damage at at that costs the entries first to last.
func (r *Reader) corrupt(at int64, first, last uint64) error {
	return &CorruptError{File: filepath.Join(r.opt.Dir, r.seg.name), Offset: at, First: first, Last: last, Err: ErrChecksum}
}

// adopt makes list the one that the Reader goes by, and finds the present segment's
// successor in it.
func (r *Reader) adopt(list *[]*segment) {
	r.listed = list
	r.after = nil
	if r.seg == nil {
		return
	}
	r.r.seek(r.r.off) // what was read ahead may be from before the change
	r.checked = 0
	for _, s := range *list {
		if s.gen > r.seg.gen {
			r.after = s
			break
		}
	}
}

// enter opens the segment that holds the next entry, at a place near it. io.EOF: the log is
// empty; ErrTruncated: the entry was deleted.
func (r *Reader) enter() error {
	for range 3 {
		list := *r.listed
		if len(list) == 0 {
			if err := r.src.refresh(); err != nil {
				return err
			}
			if l := r.src.list(); l != r.listed {
				r.adopt(l)
				continue
			}
			return io.EOF
		}
		if r.next < list[0].first {
			return fmt.Errorf("entry %d, the first is %d: %w", r.next, list[0].first, ErrTruncated)
		}
		i := len(list) - 1
		for list[i].first > r.next {
			i--
		}
		file, err := openSegment(r.opt, list[i])
		if err != nil {
			if !isNotExist(err) {
				return err
			}
			// Deleted since: the list must have changed.
			if err := r.src.refresh(); err != nil {
				return err
			}
			if r.src.list() == r.listed && r.src.stable() != math.MaxUint64 { // not another process's
				return r.missing(list[i:])
			}
			r.adopt(r.src.list())
			continue
		}
		r.seg, r.file = list[i], file
		off := r.seg.near(r.next)
		if r.r == nil {
			r.r = newFrameReader(file, r.seg.seed, off, r.opt.ReadBuffer)
		} else {
			r.r.file, r.r.seed = file, r.seg.seed
			r.r.seek(off)
		}
		r.adopt(r.listed)
		r.checked, r.reach = 0, 0
		r.end, err = r.limit()
		return err
	}
	return fmt.Errorf("entry %d: %w", r.next, ErrTruncated)
}

// missing passes over the first of the given segments, which is in the list and not in the
// folder: somebody has taken it away. It returns the entries lost with it as an error.
func (r *Reader) missing(list []*segment) error {
	last := r.src.stable()
	if len(list) > 1 {
		last = list[1].first - 1
	}
	if r.next > last {
		return io.EOF
	}
	first := r.next
	r.next = last + 1
	return &CorruptError{File: filepath.Join(r.opt.Dir, list[0].name), First: first, Last: last, Err: ErrMissing}
}

// leave closes the present segment.
func (r *Reader) leave() {
	if r.file != nil {
		_ = r.file.Close()
	}
	r.seg, r.file, r.after, r.end = nil, nil, nil, 0
}

// Close closes the Reader's file. A second call does nothing.
func (r *Reader) Close() error {
	r.leave()
	return nil
}
