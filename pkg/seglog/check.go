package seglog

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// checked is the outcome of reading a whole segment.
type checked struct {
	end     int64  // behind the last frame, after repair
	next    uint64 // index of the entry that would come next
	synced  uint64 // highest mark
	gaps    []Gap
	damaged []Damage
	// unsynced are holes among entries that nothing shows to have been durable.
	unsynced []Damage
	torn     *Torn
}

// checkSegment reads a segment frame by frame. until is the last entry it must
// have, 0 for the newest one. Entries up to durable are known to have been on
// stable storage. It changes nothing but the segment's points.
func checkSegment(file fsys.File, seg *segment, until, durable uint64) (*checked, error) {
	size, err := file.Size()
	if err != nil {
		return nil, err
	}
	c := &checker{
		file: file, seg: seg, until: until, size: size,
		checked: checked{next: seg.first},
		r:       newFrameReader(file, seg.seed, dataOffset, int(min(size, 1<<20))),
	}
	if err := c.run(); err != nil {
		return nil, err
	}
	all := c.damaged
	c.damaged = nil
	for _, d := range all {
		// A hole that begins behind all that is known to have been durable is what a
		// power loss leaves of appends that were not synced.
		if d.Certain = until != 0 || d.First <= max(c.synced, durable); d.Certain {
			c.damaged = append(c.damaged, d)
		} else {
			c.unsynced = append(c.unsynced, d)
		}
	}
	return &c.checked, nil
}

type checker struct {
	checked
	file  fsys.File
	seg   *segment
	until uint64
	size  int64
	r     *frameReader
	// reach is the highest index an entry may have right behind a damaged place,
	// 0 elsewhere: how many are lost there is known only from the next entry.
	reach uint64
}

func (c *checker) run() error {
	for c.until == 0 || c.next <= c.until {
		at := c.r.off
		f, state, err := c.r.next(c.size)
		if err != nil {
			return err
		}
		if state == scanFrame && c.accept(f, at) {
			continue
		}
		if state == scanFrame {
			c.r.seek(at)
		}
		more, err := c.damage(at, state)
		if err != nil {
			return err
		}
		if !more {
			return c.explain()
		}
	}
	c.end = c.r.off
	return c.explain()
}

// explain reads what the gaps say about themselves.
func (c *checker) explain() error {
	for i := range c.gaps {
		g := &c.gaps[i]
		var b [frameHead + noteSize]byte
		n, err := c.file.ReadAt(b[:], g.Offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		f, _ := parseHead(b[:])
		g.Unsynced = n == len(b) && f.length >= noteSize && binary.LittleEndian.Uint32(b[frameHead:]) == noteOf(c.seg.seed, b[:frameHead])
	}
	return nil
}

// accept takes a valid frame; false when its index cannot be.
func (c *checker) accept(f frame, at int64) bool {
	switch f.typ {
	case frameEntry:
		if f.index != c.next {
			if f.index < c.next || f.index > c.reach {
				return false
			}
			c.damaged[len(c.damaged)-1].Last = f.index - 1
		}
		c.reach = 0
		c.next = f.index + 1
		c.seg.note(f.index, at)
	case frameMark:
		if f.index >= c.next {
			if f.index > c.reach {
				return false
			}
			c.damaged[len(c.damaged)-1].Last = f.index
			c.next = f.index + 1
		}
		c.synced = max(c.synced, f.index)
	case frameGap:
		if f.index+1 < c.next || (c.until != 0 && f.index > c.until) || c.r.off > max(c.size, at+frameHead) {
			return false
		}
		if f.index >= c.next {
			c.gaps = append(c.gaps, Gap{File: c.seg.name, Offset: at, First: c.next, Last: f.index})
		}
		c.reach = 0
		c.next = f.index + 1
	}
	return true
}

// damage deals with what is no acceptable frame at an offset. more says that
// valid frames follow.
func (c *checker) damage(at int64, state scanState) (more bool, err error) {
	data, err := lastByte(c.file, min(at, c.size), c.size)
	if err != nil {
		return false, err
	}
	c.end = at
	if data <= at && state != scanBad && state != scanFrame {
		// Clean end. In a segment that has successors it comes too early.
		if c.until != 0 {
			c.lost(at, 0, c.until, c.early())
			c.end = at + frameHead
		}
		return false, nil
	}
	data = max(data, at)
	pos, _, ok, err := findFrame(c.file, c.seg.seed, at, data, c.size, c.next)
	if err != nil && !errors.Is(err, errTooOdd) {
		return false, err
	}
	switch {
	case ok:
		c.lost(at, pos-at, c.next-1, ErrChecksum)
		c.reach = c.next + uint64((pos-at)/frameHead)
		c.r.seek(pos)
		return true, nil
	case c.until != 0 || errors.Is(err, errTooOdd):
		// Nobody knows how many entries: skip all that could have fitted.
		last := c.until
		if last == 0 {
			last = c.next + uint64(data-at)/frameHead
		}
		cause := ErrChecksum
		if c.beyond(at) {
			cause = ErrCut
		}
		c.lost(at, data-at, last, cause)
		c.end = at + max(data-at, frameHead)
	default:
		c.torn = &Torn{File: c.seg.name, Offset: at, Bytes: data - at, Index: c.next}
	}
	return false, nil
}

// early is why a segment that has successors ends before the next one begins.
func (c *checker) early() error {
	if c.seg.skipped {
		return ErrMissing
	}
	return ErrCut
}

// beyond says whether the bytes at an offset begin a frame of which the file's end
// has cut a part off.
func (c *checker) beyond(at int64) bool {
	var head [frameHead]byte
	n, _ := c.file.ReadAt(head[:], at) // what cannot be read is no frame
	if n < frameHead {
		return n > 0 && at+int64(n) >= c.size && binary.LittleEndian.Uint64(head[:8]) != 0
	}
	f, ok := parseHead(head[:])
	return ok && at+int64(f.checked()) > c.size
}

func (c *checker) lost(at, n int64, last uint64, cause error) {
	c.damaged = append(c.damaged, Damage{
		File: c.seg.name, Offset: at, Bytes: n, First: c.next, Last: last, Err: cause,
	})
	c.next = max(c.next, last+1)
}
