package ingest

import (
	"errors"
	"io"
	"net"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/collector/internal/poll"
)

// A scratch is where a read goes, and what it was cut into. A session has one only
// between a read and the end of its parsing, so that idle sessions hold none, and
// of a size that its sender fills: a thousand senders with a record each in flight
// must not take a thousand large buffers.
type scratch struct {
	buf   []byte
	class uint8
	spans []span
	beats []beat
	moved int // bytes of buf whose share of what may be in flight is a batch's now
}

// span is a record in scratch.buf.
type span struct {
	seq        uint32
	start, end int
}

// classes are the sizes of buffers. The least takes any frame after one that was
// left unfinished.
var classes = [...]int{24 << 10, readSize}

// quietReads is how many reads in a row have to leave most of a buffer empty for
// the next smaller one to be taken.
const quietReads = 32

// sizer chooses the size of a session's reads.
type sizer struct{ class, quiet uint8 }

// filled tells of a turn that brought n bytes into the buffer.
func (z *sizer) filled(n int) {
	switch {
	case n == classes[z.class] && int(z.class) < len(classes)-1:
		z.class++
		z.quiet = 0
	case z.class > 0 && n < classes[z.class-1]/2:
		if z.quiet++; z.quiet == quietReads {
			z.class--
			z.quiet = 0
		}
	default:
		z.quiet = 0
	}
}

func (in *Ingest) takeScratch(class uint8) *scratch {
	if sc, ok := in.scratch[class].Get().(*scratch); ok {
		return sc
	}
	return &scratch{buf: make([]byte, classes[class]), class: class}
}

// giveScratch gives a buffer and its share of what may be in flight back.
func (in *Ingest) giveScratch(sc *scratch) {
	share := len(sc.buf) - sc.moved
	sc.moved = 0
	if cap(sc.spans) > len(sc.buf)/64 {
		sc.spans = nil // records of a few bytes each: not for keeps
	}
	if cap(sc.beats) > 2*turnFrames {
		sc.beats = nil
	}
	in.scratch[sc.class].Put(sc)
	in.total.Release(int64(share))
}

var (
	// errNoRoom is returned by read when too much is in flight overall.
	errNoRoom = errors.New("too much is in flight")
	// errNothing is returned by read when there is nothing to be read yet.
	errNothing = errors.New("nothing to be read")
)

// read reads a step into s.sc, or when that is nil into one it takes, which begins with
// what was left of the last turn; s.n bytes are in it. The buffer counts against the
// bytes in flight overall. It is given back when read fails.
func (s *session) read() error {
	if s.c.Cause() != "" {
		s.dropScratch()
		return net.ErrClosed
	}
	if s.sc == nil {
		if !s.in.total.TryAcquire(int64(classes[s.size.class])) {
			return errNoRoom
		}
		s.sc = s.in.takeScratch(s.size.class)
	}
	s.n = copy(s.sc.buf, s.left)
	s.most = len(s.sc.buf)
	if s.load.class == poll.Light {
		s.most = min(s.most, s.n+part(lightBytes, s.lane.poller.Len(), lightBytesLeast))
	}
	err := s.step()
	if err != nil {
		s.dropScratch()
	}
	return err
}

// step reads once, at most s.steps bytes behind those that are in s.sc.
func (s *session) step() error {
	s.rdErr = nil
	if err := s.c.Sock().Control(s.readFn); err != nil {
		return err
	}
	return s.rdErr
}

// awaitTurn waits until a buffer may be taken, and takes it: for the session's own
// goroutine.
func (s *session) awaitTurn() error {
	s.in.cfg.Metrics.Waits.Inc()
	s.c.Busy(true) // its silence is ours
	defer s.c.Busy(false)
	if err := s.in.total.Acquire(s.in.ctx, int64(classes[s.size.class])); err != nil {
		return err
	}
	s.sc = s.in.takeScratch(s.size.class)
	return nil
}

func (s *session) dropScratch() {
	if s.sc != nil {
		s.in.giveScratch(s.sc)
		s.sc = nil
	}
}

func (s *session) readSocket(fd uintptr) {
	for {
		m, err := unix.Read(int(fd), s.sc.buf[s.n:min(s.n+s.steps, s.most)])
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			err = errNothing
		case err == nil && m == 0:
			err = io.EOF
		case err == nil:
			s.n += m
		}
		s.rdErr = err
		return
	}
}
