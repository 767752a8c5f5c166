package seglog

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// checked is the outcome of reading a whole segment, before anything was repaired.
type checked struct {
	end     int64  // where the last frame ends once the segment is repaired
	next    uint64 // index of the entry that would come next
	synced  uint64 // the highest index that a mark says was durable
	gaps    []Gap
	damaged []Damage
	// unsynced are holes among entries of which nothing shows that they were durable.
	unsynced []Damage
	torn     *Torn // the end of the newest segment, when it is no whole frame
}

// checkSegment reads a segment frame by frame. until is the last entry that it must have, 0
// for the newest segment, which may end anywhere. The caller knows that entries up to
// durable were on stable storage. Nothing is changed but the segment's points.
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

// checker is one run of checkSegment.
type checker struct {
	checked
	file  fsys.File
	seg   *segment
	until uint64
	size  int64 // of the file
	r     *frameReader
	// reach is the highest index that the first entry behind a damaged place may have, 0
	// elsewhere. How many entries are lost there is known only from that entry's index.
	reach uint64
}

// run reads frames until the segment ends or nothing valid follows.
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

// explain finds out which gaps are of entries that were never known to be durable: these
// have a note behind their head.
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

// accept counts a valid frame, which lies at at. It is false when no frame of that index can
// be there: then the bytes are damage, or another segment's.
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
		c.seg.addPoint(f.index, at)
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

// damage decides what the bytes at at are, where no acceptable frame is: the clean end, a
// torn end, or damage. It returns true when valid frames follow, and r is at the first.
func (c *checker) damage(at int64, state scanState) (more bool, err error) {
	data, err := lastByte(c.file, min(at, c.size), c.size)
	if err != nil {
		return false, err
	}
	c.end = at
	if data <= at && state != scanBad && state != scanFrame {
		// Clean end. In a segment that has successors it comes too early.
		if c.until != 0 {
			c.lost(at, 0, c.until, c.earlyCause())
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
		if c.cutShort(at) {
			cause = ErrCut
		}
		c.lost(at, data-at, last, cause)
		c.end = at + max(data-at, frameHead)
	default:
		c.torn = &Torn{File: c.seg.name, Offset: at, Bytes: data - at, Index: c.next}
	}
	return false, nil
}

// earlyCause returns why a segment that has successors ends before the next one begins.
func (c *checker) earlyCause() error {
	if c.seg.skipped {
		return ErrMissing
	}
	return ErrCut
}

// cutShort reports whether the bytes at an offset begin a frame that goes on behind the file's
// end: then somebody has cut the file.
func (c *checker) cutShort(at int64) bool {
	var head [frameHead]byte
	n, _ := c.file.ReadAt(head[:], at) // what cannot be read is no frame
	if n < frameHead {
		return n > 0 && at+int64(n) >= c.size && binary.LittleEndian.Uint64(head[:8]) != 0
	}
	f, ok := parseHead(head[:])
	return ok && at+int64(f.checked()) > c.size
}

// lost notes that n damaged bytes at at cost the entries from the next one to last.
func (c *checker) lost(at, n int64, last uint64, cause error) {
	c.damaged = append(c.damaged, Damage{
		File: c.seg.name, Offset: at, Bytes: n, First: c.next, Last: last, Err: cause,
	})
	c.next = max(c.next, last+1)
}
