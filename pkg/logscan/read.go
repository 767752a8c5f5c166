package logscan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/auditfleet/auditfleet/pkg/record"
)

// ReadConfig says how to read a log.
type ReadConfig struct {
	// StartMs and EndMs are the query's time bounds: records outside of them are dropped
	// before events are formed. 0 sets no bound.
	StartMs, EndMs int64
	// EOETimeout is how much younger a record must be to end an open event; 0 stands for
	// 2 s.
	EOETimeout time.Duration
	// Skipped, if set, is called with each line that is not a record with a time, and
	// with the reason. The line is valid during the call only.
	Skipped func(line []byte, err error)
	// Growing says that the last log may be written to. ReadComplete then leaves out a last
	// line without a newline, where that log is a plain file.
	Growing bool
}

func (cfg *ReadConfig) timeoutSec() int64 {
	if s := int64(cfg.EOETimeout / time.Second); s > 0 {
		return s
	}
	return 2
}

const (
	// chunkBytes is what is read and looked at in one go. It stays in a core's
	// cache between the two.
	chunkBytes = 512 << 10
	// streamBytes is the least a stream is read in.
	streamBytes = 64 << 10
	// maxLine is how much of a line the stock tool takes for a record.
	maxLine = record.MaxLength - 1
	// maxWaiting bounds what is held of a log whose events never complete, such
	// as one that was written backwards.
	maxWaiting = 256 << 20
	// maxPinned is how many chunks waiting events may keep in memory.
	maxPinned = 64
	// longRest is how much of the rest of an overlong line is kept to be shown.
	longRest = 256
)

// errTooLong is the reason for skipping the rest of an overlong line.
var errTooLong = fmt.Errorf("search: line is longer than %d bytes, the rest is left out", maxLine)

// idle is how long a pipe may be silent before open events are emitted.
const idle = 3 * time.Second

// waiter is a log that may have no data for a while, such as a pipe.
type waiter interface {
	// wait reports whether there is something to read, or the end, within d.
	wait(d time.Duration) (bool, error)
}

// A source returns a log in chunks. One goroutine may use it.
type source interface {
	// next prepares an empty chunk. Where it sets c.fill, any goroutine may do
	// the reading, for several chunks at once. It returns io.EOF at the end.
	next(ctx context.Context, c *chunk) error
}

// sourceOf chooses how a log is read.
func sourceOf(log io.Reader, size int) source {
	if f, ok := log.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			return &fileSource{f: f, end: info.Size(), size: int64(size)}
		}
	}
	return &streamSource{r: log}
}

// fileSource reads a file at several offsets in parallel. It copies with pread. Mapping
// the file was not faster: a copy of 512 KiB stays in the cache, and the page faults of a
// mapping cost as much. Moreover, a process that reads a mapped file is killed when
// somebody truncates the file.
//
// The end of the file is determined once: data that is appended later is not read, and
// data that is cut off is missing.
type fileSource struct {
	f       *os.File
	at, end int64
	size    int64
}

func (s *fileSource) next(_ context.Context, c *chunk) error {
	if s.at >= s.end {
		return io.EOF
	}
	f, from, to, end := s.f, s.at, min(s.at+s.size, s.end), s.end
	s.at = to
	c.fill = func(c *chunk) error { return fillFrom(c, f, from, to, end) }
	return nil
}

// fillFrom reads the lines that begin within [from, to) of a log that ends at end:
// the last of them goes on behind to.
func fillFrom(c *chunk, f io.ReaderAt, from, to, end int64) error {
	back := min(from, 1) // to see whether a line begins at from
	const more = 1 << 10 // most lines end within
	size := int(min(to+more, end) - from + back)
	buf, err := readTo(f, c.buf[:0], from-back, size)
	if err != nil {
		return err
	}
	c.buf = buf
	start := 0
	if back == 1 {
		i := bytes.IndexByte(buf, '\n')
		if i < 0 || from-back+int64(i)+1 >= to {
			return nil // no line begins here
		}
		start = i + 1
	}
	// A line that begins before to and has no end yet.
	last := int(to - from + back) // of buf
	if last > len(buf) {
		c.data = buf[start:]
		return nil
	}
	if buf[last-1] == '\n' {
		c.data = buf[start:last]
		return nil
	}
	i := bytes.IndexByte(buf[last:], '\n')
	if i < 0 && len(buf) == size && from-back+int64(size) < end {
		rest := min(int64(maxLine+longRest), end-(from-back)-int64(size))
		if buf, err = readTo(f, buf, from-back+int64(size), int(rest)); err != nil {
			return err
		}
		c.buf = buf
		i = bytes.IndexByte(buf[last:], '\n')
	}
	if i >= 0 {
		buf = buf[:last+i]
	}
	c.data = buf[start:]
	return nil
}

// readTo appends size bytes at off, or as many as there are.
func readTo(f io.ReaderAt, buf []byte, off int64, size int) ([]byte, error) {
	have := len(buf)
	if cap(buf) < have+size {
		grown := make([]byte, have, max(have+size, chunkBytes+2<<10))
		copy(grown, buf)
		buf = grown
	}
	n, err := f.ReadAt(buf[have:have+size], off)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read log: %w", err)
	}
	return buf[:have+n], nil
}

// streamSource reads a log that can only be read sequentially.
type streamSource struct {
	r        io.Reader
	rest     []byte // of the last line, its own memory
	skipping bool   // within the rest of an overlong line
	eof      bool
}

func (s *streamSource) next(ctx context.Context, c *chunk) error {
	if s.eof {
		return io.EOF
	}
	if w, ok := s.r.(waiter); ok {
		ready, err := await(ctx, w)
		if err != nil {
			return fmt.Errorf("wait for log: %w", err)
		}
		if !ready {
			c.idle = true
			return nil
		}
	}
	buf := append(c.buf[:0], s.rest...)
	if cap(buf) < len(buf)+streamBytes {
		buf = append(make([]byte, 0, len(buf)+max(streamBytes, chunkBytes/2)), buf...)
	}
	n, err := s.r.Read(buf[len(buf):cap(buf)])
	buf = buf[:len(buf)+n]
	c.buf = buf
	switch {
	case errors.Is(err, io.EOF):
		s.eof = true
	case err != nil:
		return fmt.Errorf("read log: %w", err)
	}
	c.data = s.cut(buf)
	return nil
}

// await waits for something to read, but not longer than idle.
func await(ctx context.Context, w waiter) (ready bool, err error) {
	const slice = idle / 30 // how soon a scan that has enough notices
	for end := time.Now().Add(idle); !ready && err == nil && time.Now().Before(end); {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		ready, err = w.wait(slice)
	}
	return ready, err
}

// cut keeps what is behind the last newline for the next time.
func (s *streamSource) cut(buf []byte) []byte {
	if s.skipping {
		i := bytes.IndexByte(buf, '\n')
		if i < 0 {
			s.rest = s.rest[:0]
			return buf[:0]
		}
		buf, s.skipping = buf[i+1:], false
	}
	end := len(buf)
	if !s.eof {
		end = bytes.LastIndexByte(buf, '\n') + 1
		if len(buf)-end > maxLine+longRest {
			end, s.skipping = len(buf), true
		}
	}
	s.rest = append(s.rest[:0], buf[end:]...)
	return buf[:end]
}

// merge passes the runs of chunks to order, one chunk after the other. One goroutine uses
// it.
type merge struct {
	cfg    ReadConfig
	order  *order
	pinned int // chunks that waiting events may keep; 0 is maxPinned
	seq    uint64
}

// add takes the runs of the next chunk, and the caller's hold of it.
func (m *merge) add(c *chunk) error {
	defer c.release()
	m.seq++
	c.seq = m.seq
	for _, s := range c.skipped {
		m.cfg.Skipped(c.bytes(s.line), s.err)
	}
	if c.idle {
		return m.order.flush()
	}
	for i := range c.runs {
		if err := m.order.add(c, &c.runs[i]); err != nil {
			return err
		}
	}
	most := m.pinned
	if most == 0 {
		most = maxPinned
	}
	if m.order.pinned > most {
		m.order.unpin(m.seq - uint64(most/2))
	}
	return nil
}
