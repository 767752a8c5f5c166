package seglog

import (
	"errors"
	"fmt"
	"io"
	"slices"
)

// scanState is what a frameReader has found at its offset.
type scanState int

const (
	scanFrame scanState = iota // a valid frame
	scanEnd                    // the limit
	scanZero                   // zeroes: preallocated space that was not written yet
	scanBad                    // bytes that are no valid frame, or a part of one
)

// frameReader reads frames one after another through a buffer of its own. It is for one
// goroutine.
type frameReader struct {
	file io.ReaderAt
	seed uint32
	off  int64  // file offset of buf[pos]
	buf  []byte // buf[pos:end] was read and not returned yet
	pos  int
	end  int
	most int // how much is read at once, unless a frame is larger
}

// newFrameReader returns a frameReader that begins at off; its buffer is made when it is
// first needed.
func newFrameReader(file io.ReaderAt, seed uint32, off int64, bufSize int) *frameReader {
	return &frameReader{file: file, seed: seed, off: off, most: bufSize}
}

// seek goes to an offset and drops what was read ahead, which may be out of date.
func (r *frameReader) seek(off int64) { r.off, r.pos, r.end = off, 0, 0 }

// fill makes need bytes available at buf[pos:], when the file has so many below limit, and
// returns how many are available.
func (r *frameReader) fill(need int, limit int64) (int, error) {
	have := r.end - r.pos
	if have >= need {
		return have, nil
	}
	want := max(need, r.most)
	if left := limit - r.off; int64(want) > left {
		want = int(max(left, int64(have)))
	}
	if cap(r.buf) < want {
		bigger := make([]byte, max(want, min(r.most, MaxEntry+frameHead)))
		copy(bigger, r.buf[r.pos:r.end])
		r.buf = bigger
	} else if r.pos > 0 {
		copy(r.buf[:cap(r.buf)], r.buf[r.pos:r.end])
	}
	r.buf = r.buf[:cap(r.buf)]
	r.pos, r.end = 0, have
	if want <= have {
		return have, nil
	}
	n, err := r.file.ReadAt(r.buf[have:want], r.off+int64(have))
	r.end += n
	if err != nil && !errors.Is(err, io.EOF) {
		return r.end, fmt.Errorf("read at offset %d: %w", r.off+int64(have), err)
	}
	return r.end, nil
}

// next returns the frame at the present offset and goes on behind it. When the state is not
// scanFrame, the offset stays. It reads no byte at or past limit. The payload is valid until
// the next call.
func (r *frameReader) next(limit int64) (frame, scanState, error) {
	have, err := r.fill(frameHead, limit)
	if err != nil {
		return frame{}, scanBad, err
	}
	if have < frameHead {
		switch {
		case have == 0:
			return frame{}, scanEnd, nil
		case allZero(r.buf[r.pos:r.end]):
			return frame{}, scanZero, nil
		}
		return frame{}, scanBad, nil
	}
	head := r.buf[r.pos : r.pos+frameHead]
	f, ok := parseHead(head)
	if !ok {
		if allZero(head) {
			return frame{}, scanZero, nil
		}
		return frame{}, scanBad, nil
	}
	n := f.checked()
	if r.off+int64(n) > limit {
		return frame{}, scanBad, nil
	}
	if have < n {
		if have, err = r.fill(n, limit); err != nil || have < n {
			return frame{}, scanBad, err
		}
	}
	b := r.buf[r.pos : r.pos+n]
	if !f.valid(b, r.seed) {
		return frame{}, scanBad, nil
	}
	f.payload = b[frameHead:]
	if f.typ == frameGap && f.length > 0 {
		f.payload = nil
		r.seek(r.off + f.size())
		return f, scanFrame, nil
	}
	r.pos += n
	r.off += int64(n)
	return f, scanFrame, nil
}

// lastByte returns the offset just past the last byte in [from, size) that is
// not zero, or from when there is none.
func lastByte(file io.ReaderAt, from, size int64) (int64, error) {
	buf := make([]byte, min(max(size-from, 0), 256<<10))
	for end := size; end > from; {
		start := max(from, end-int64(len(buf)))
		b := buf[:end-start]
		if n, err := file.ReadAt(b, start); err != nil && !(errors.Is(err, io.EOF)) {
			return 0, fmt.Errorf("read at offset %d: %w", start, err)
		} else if n < len(b) {
			b = b[:n]
		}
		if !allZero(b) {
			for i := len(b); ; i-- {
				if b[i-1] != 0 {
					return start + int64(i), nil
				}
			}
		}
		end = start
	}
	return from, nil
}

// errTooOdd ends a search for the next valid frame that has become too costly: somebody has
// made bytes that look like the heads of long frames at every offset.
var errTooOdd = errors.New("too many bytes that look like frames")

// findFrame searches for the first valid frame behind a damaged place at bad, where entry
// next was due, and below limit; ok is false when there is none. From data on the file has
// only zeroes, with which a frame may end. Whether a checksum is computed at all is decided
// by the index: a frame that begins d bytes behind bad is at most d/frameHead entries further.
func findFrame(file io.ReaderAt, seed uint32, bad, data, limit int64, next uint64) (at int64, f frame, ok bool, err error) {
	if data-bad <= frameHead {
		return 0, frame{}, false, nil
	}
	b := make([]byte, min(data+frameHead, limit)-bad)
	n, err := file.ReadAt(b, bad)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, frame{}, false, fmt.Errorf("read at offset %d: %w", bad, err)
	}
	b = b[:n]
	budget := 64*int64(len(b)) + 1<<20
	for p := frameHead; p+frameHead <= len(b) && bad+int64(p) < data; p++ {
		f, ok := parseHead(b[p:])
		if !ok {
			continue
		}
		far := next + uint64(p/frameHead)
		switch {
		case f.index > far, f.typ == frameEntry && f.index < next, f.index+1 < next && f.typ == frameGap:
			continue
		case bad+int64(p+f.checked()) > limit:
			continue
		}
		if budget -= int64(f.checked()); budget < 0 {
			return 0, frame{}, false, errTooOdd
		}
		if p+f.checked() > len(b) { // once: whoever made such bytes must not have all of them copied for each head
			b = slices.Concat(b, make([]byte, limit-bad-int64(len(b))))
		}
		if f.valid(b[p:], seed) {
			return bad + int64(p), f, true, nil
		}
	}
	return 0, frame{}, false, nil
}
