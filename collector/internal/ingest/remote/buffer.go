package remote

import (
	"errors"
	"io"
	"net"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/collector/internal/intake"
	"github.com/auditfleet/auditfleet/collector/internal/poll"
)

// readSize is the most one turn reads: a window of 256 ordinary records.
const readSize = intake.MaxPiece

// A buffer is where a turn reads to, and what it was cut into. A session has one only
// between a read and the end of its parsing, so that idle sessions hold none, and
// of a size that its sender fills: a thousand senders with a record each in flight
// must not take a thousand large buffers.
type buffer struct {
	bytes   []byte
	size    uint8 // of bufferSizes
	spans   []span
	beats   []beat
	entered int // bytes whose share of what may be in flight is a batch's now
}

// span is a record in buffer.bytes.
type span struct {
	seq        uint32
	start, end int
}

// bufferSizes are those there are. The least takes any frame after one that was left
// unfinished.
var bufferSizes = [...]int{24 << 10, readSize}

// quietReads is how many turns in a row have to leave most of a buffer empty for
// the next smaller one to be used.
const quietReads = 32

// sizer chooses the size of a session's buffers.
type sizer struct{ size, quiet uint8 }

// filled tells of a turn that brought n bytes into the buffer.
func (z *sizer) filled(n int) {
	switch {
	case n == bufferSizes[z.size] && int(z.size) < len(bufferSizes)-1:
		z.size++
		z.quiet = 0
	case z.size > 0 && n < bufferSizes[z.size-1]/2:
		if z.quiet++; z.quiet == quietReads {
			z.size--
			z.quiet = 0
		}
	default:
		z.quiet = 0
	}
}

// getBuffer returns a buffer whose size was acquired.
func (all *Sessions) getBuffer(size uint8) *buffer {
	if b, ok := all.buffers[size].Get().(*buffer); ok {
		return b
	}
	return &buffer{bytes: make([]byte, bufferSizes[size]), size: size}
}

// putBuffer gives a buffer back, and what it has of the bytes in flight.
func (all *Sessions) putBuffer(b *buffer) {
	share := len(b.bytes) - b.entered
	b.entered = 0
	if cap(b.spans) > len(b.bytes)/64 {
		b.spans = nil // records of a few bytes each: not for keeps
	}
	if cap(b.beats) > 2*turnFrames {
		b.beats = nil
	}
	all.buffers[b.size].Put(b)
	all.in.Release(share)
}

func (s *session) dropBuffer() {
	if s.buf != nil {
		s.all.putBuffer(s.buf)
		s.buf = nil
	}
}

// awaitBuffer waits until a buffer may be had, and gets it: for the session's own
// goroutine.
func (s *session) awaitBuffer() error {
	s.c.Busy(true) // its silence is ours
	defer s.c.Busy(false)
	if err := s.all.in.Acquire(s.all.ctx, bufferSizes[s.size.size]); err != nil {
		return err
	}
	s.buf = s.all.getBuffer(s.size.size)
	return nil
}

var (
	// errNoRoom is returned by read when too much is in flight overall.
	errNoRoom = errors.New("too much is in flight")
	// errNothing is returned by read when there is nothing to be read yet.
	errNothing = errors.New("nothing to be read")
)

// read reads a step into s.buf, or when that is nil into one it gets, which begins with
// what the last turn left unfinished; s.n bytes are in it. The buffer counts against the
// bytes in flight overall. It is given back when read fails.
func (s *session) read() error {
	if s.c.Cause() != "" {
		s.dropBuffer()
		return net.ErrClosed
	}
	if s.buf == nil {
		if !s.all.in.TryAcquire(bufferSizes[s.size.size]) {
			return errNoRoom
		}
		s.buf = s.all.getBuffer(s.size.size)
	}
	s.n = copy(s.buf.bytes, s.unfinished)
	s.most = len(s.buf.bytes)
	if s.load.class == poll.Light {
		s.most = min(s.most, s.n+part(lightBytes, s.lane.poller.Len(), lightBytesLeast))
	}
	err := s.readStep()
	if err != nil {
		s.dropBuffer()
	}
	return err
}

// readStep reads once, at most s.step bytes behind those that are in s.buf.
func (s *session) readStep() error {
	s.readErr = nil
	if err := s.c.Sock().Control(s.readFn); err != nil {
		return err
	}
	return s.readErr
}

func (s *session) readSocket(fd uintptr) {
	m, err := poll.Read(fd, s.buf.bytes[s.n:min(s.n+s.step, s.most)])
	switch {
	case errors.Is(err, unix.EAGAIN):
		err = errNothing
	case err == nil && m == 0:
		err = io.EOF
	case err == nil:
		s.n += m
	}
	s.readErr = err
}
