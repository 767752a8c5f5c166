package agent

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// chunkSize is how much is read at once, and the longest line there can be.
const chunkSize = 256 << 10

// chunk is a run of records from a source of lines. What it holds aliases data,
// and is the receiver's until it gives the chunk back.
type chunk struct {
	data    []byte
	n       int // bytes of data that are filled
	lines   [][]byte
	records []kernel.Record // from the binary format's version 0, without their type in words
	pos     position        // up to where the file was read
}

// position is a place in a followed file.
type position struct {
	dev, ino uint64
	offset   int64
}

// splitter cuts what a source reads into records. Only its own goroutine uses it.
type splitter struct {
	decode func(c *chunk) (used int, err error) // nil until the format is known
	frame  binaryFormat
	skip   bool  // within a line that is too long
	offset int64 // of the source's byte stream, where the chunk begins
	bad    func(offset int64, why string)
}

// errBinary is returned for a stream that began in the dispatcher's binary
// format and stopped being one.
var errBinary = errors.New("not the dispatcher's binary format")

// split finds the whole records in c and returns how many bytes they took. The
// rest is the beginning of the next.
func (s *splitter) split(c *chunk, atEnd bool) (used int, err error) {
	c.lines, c.records = c.lines[:0], c.records[:0]
	if s.decode == nil {
		if c.n < 8 && !atEnd {
			return 0, nil
		}
		s.decode = s.text
		if looksBinary(c.data[:c.n]) {
			s.decode = s.frame.decode
		}
	}
	used, err = s.decode(c)
	if err != nil {
		return used, fmt.Errorf("byte %d of the input: %w", s.offset+int64(used), err)
	}
	switch rest := c.n - used; {
	case !atEnd || rest == 0:
	case !s.frame.known:
		// The last line has no newline.
		if !s.skip {
			c.lines = append(c.lines, c.data[used:c.n])
		}
		used = c.n
	case s.frame.pad == 0:
		s.bad(s.offset+int64(used), "the input ends within a record")
	}
	s.offset += int64(used)
	return used, nil
}

// text splits lines. Empty ones are no records.
func (s *splitter) text(c *chunk) (used int, err error) {
	for {
		i := bytes.IndexByte(c.data[used:c.n], '\n')
		if i < 0 {
			break
		}
		if i > 0 && !s.skip {
			c.lines = append(c.lines, c.data[used:used+i])
		}
		s.skip = false
		used += i + 1
	}
	if used == 0 && c.n == len(c.data) {
		if !s.skip {
			s.bad(s.offset, "a line longer than 262144 bytes")
		}
		s.skip = true
		return c.n, nil
	}
	return used, nil
}

// looksBinary tells the dispatcher's binary format from lines: it begins with a
// small version and the length of its header, where lines have "type" or "node".
func looksBinary(b []byte) bool {
	if len(b) < 8 {
		return false
	}
	return binary.NativeEndian.Uint32(b) <= 1 && binary.NativeEndian.Uint32(b[4:]) == binaryHeader
}

const (
	binaryHeader = 16
	// binaryRecord is the room the stock dispatcher 3.0.9 writes for each record,
	// whatever its size: the header and the longest text.
	binaryRecord = binaryHeader + kernel.MaxMessage
)

// binaryFormat reads records of a header of four native-endian words (version,
// header length, type, size) and size bytes. Version 0 has the kernel's text,
// version 1 the whole line. Stock 3.0.9 pads every record to 8986 bytes; others
// write just size bytes. Which one it is shows after the first record.
type binaryFormat struct {
	known  bool
	padded bool
	asked  bool // padded is settled
	pad    int  // bytes to pass over before the next header, when padded
}

func (f *binaryFormat) decode(c *chunk) (used int, err error) {
	f.known = true
	for {
		b := c.data[used:c.n]
		if f.pad > 0 {
			if !f.asked {
				if len(b) < binaryHeader && len(b) < f.pad {
					return used, nil
				}
				f.padded = !looksBinary(b)
				f.asked = true
			}
			if f.padded {
				n := min(f.pad, len(b))
				f.pad -= n
				used += n
				if f.pad > 0 {
					return used, nil
				}
				continue
			}
			f.pad = 0
		}
		if len(b) < binaryHeader {
			return used, nil
		}
		word := binary.NativeEndian.Uint32
		version, hlen, typ, size := word(b), word(b[4:]), word(b[8:]), word(b[12:])
		if version > 1 || hlen != binaryHeader || size > kernel.MaxMessage || typ > 0xffff {
			return used, fmt.Errorf("%w: version %d, header of %d, type %d, %d bytes", errBinary, version, hlen, typ, size)
		}
		total := binaryHeader + int(size)
		if len(b) < total {
			return used, nil
		}
		text := bytes.TrimRight(b[binaryHeader:total], "\x00\n")
		if typ != uint32(tables.EOE) && len(text) > 0 {
			if version == 0 {
				c.records = append(c.records, kernel.Record{Type: uint16(typ), Text: text})
			} else {
				c.lines = append(c.lines, text)
			}
		}
		used += total
		if f.pad = binaryRecord - total; f.asked && !f.padded {
			f.pad = 0
		}
	}
}

// reader reads a source of lines and hands on chunks.
type reader struct {
	split splitter
	out   chan<- *chunk
	free  chan *chunk
	cur   *chunk
}

func newReader(out chan<- *chunk, bad func(offset int64, why string)) *reader {
	r := &reader{out: out, free: make(chan *chunk, 2), split: splitter{bad: bad}}
	for range cap(r.free) {
		r.free <- &chunk{data: make([]byte, chunkSize)}
	}
	return r
}

// take gets an empty chunk.
func (r *reader) take(ctx context.Context) error {
	if r.cur != nil {
		return nil
	}
	select {
	case r.cur = <-r.free:
		r.cur.n = 0
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// room is where the next bytes of the source go, after take.
func (r *reader) room() []byte { return r.cur.data[r.cur.n:] }

// filled says that n bytes were put there, or that the source has ended, and
// hands on the records that are whole. pos is where the source's file then is.
func (r *reader) filled(ctx context.Context, n int, atEnd bool, pos position) error {
	c := r.cur
	c.n += n
	used, err := r.split.split(c, atEnd)
	if err != nil {
		return err
	}
	rest := c.n - used
	if len(c.lines)+len(c.records) == 0 {
		copy(c.data, c.data[used:c.n])
		c.n = rest
		return nil
	}
	c.pos = pos
	c.pos.offset -= int64(rest)
	r.cur = nil
	// The unfinished record moves to the next chunk before this one is given away.
	if err := r.take(ctx); err != nil {
		return err
	}
	r.cur.n = copy(r.cur.data, c.data[used:c.n])
	select {
	case r.out <- c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// waker lets a goroutine that waits for a descriptor be woken.
type waker struct{ fd int }

func newWaker() (*waker, error) {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open an eventfd: %w", err)
	}
	return &waker{fd: fd}, nil
}

func (w *waker) wake() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	// It only fails when it has been woken already.
	_, _ = unix.Write(w.fd, one[:])
}

func (w *waker) close() error { return unix.Close(w.fd) }

// readStream reads a pipe, socket or file to its end: io.EOF. A read that waits
// ends with ctx; after soft's end, also when nothing has come for a moment.
func readStream(ctx, soft context.Context, f *os.File, r *reader) (err error) {
	w, err := newWaker()
	if err != nil {
		return err
	}
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		w.wake()
	})
	softly := make(chan struct{})
	stopSoft := context.AfterFunc(soft, func() {
		defer close(softly)
		w.wake()
	})
	defer func() {
		// The descriptor must not be closed while it is written to.
		if !stop() {
			<-woken
		}
		if !stopSoft() {
			<-softly
		}
		if cerr := w.close(); cerr != nil {
			err = errors.Join(err, cerr)
		}
	}()
	fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}, {Fd: int32(w.fd), Events: unix.POLLIN}}
	for {
		if err := r.take(ctx); err != nil {
			return err
		}
		ending := soft.Err() != nil
		wait := -1
		watched := fds
		if ending {
			// The waker stays awake.
			wait, watched = int(quietEnd.Milliseconds()), fds[:1]
		}
		n, err := unix.Poll(watched, wait)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("poll %s: %w", f.Name(), err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if ending && err == nil && n == 0 {
			return context.Canceled
		}
		if err != nil || fds[0].Revents == 0 {
			continue
		}
		n, err = unix.Read(int(f.Fd()), r.room())
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", f.Name(), err)
		}
		if err := r.filled(ctx, n, n == 0, position{}); err != nil {
			return err
		}
		if n == 0 {
			return io.EOF
		}
	}
}
