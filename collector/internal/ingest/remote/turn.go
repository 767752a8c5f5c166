package remote

import (
	"errors"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/poll"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/proto/remote"
)

const (
	// turnFrames is how many frames end a turn, which reads by steps of stepSize: a
	// sender of heartbeats, 16 bytes each, has fewer than twice as many a turn, and
	// others have theirs sooner.
	turnFrames = 512
	stepSize   = turnFrames * remote.HeaderSize
	stepLeast  = turnFrames // of a sender whose frames are smaller than a header: empty lines
	// keepUnfinished is the most an idle session keeps allocated for unfinished frames.
	keepUnfinished = 2 << 10
)

// turn is what one turn of a session brought, on its way to the journal: usually one
// batch; a new one begins where a sender changes between managed and ascii.
type turn struct {
	s        *session
	buf      *buffer
	received time.Time
	frames   int // so far
	useless  int // of frames: those with nothing to store
	start    int // of the batch in buf.bytes
	managed  bool
}

// readTurn reads and submits every whole frame of a turn. The buffer is given back
// before the journal is waited for.
func (s *session) readTurn() error {
	if err := s.read(); err != nil {
		return err
	}
	t := turn{s: s, buf: s.buf, received: s.all.cfg.Now()}
	used, err := t.parse(0, s.n)
	for at := len(s.unfinished); err == nil && s.n == at+s.step && s.n < s.most && t.frames < turnFrames; {
		if at = s.n; s.readStep() != nil {
			break // the next turn meets it again
		}
		used, err = t.parse(used, s.n)
	}
	s.size.filled(s.n)
	s.weigh(&t)
	last := t.pack(used)
	s.offset += int64(used)
	rest := t.buf.bytes[used:s.n]
	switch {
	case len(rest) == 0 && cap(s.unfinished) > keepUnfinished:
		s.unfinished = nil
	case used == 0:
		s.unfinished = append(s.unfinished, rest[len(s.unfinished):]...)
	default:
		s.unfinished = append(s.unfinished[:0], rest...)
	}
	s.dropBuffer()
	s.c.Received(used > 0, len(rest) > 0)
	s.submit(last)
	return err
}

// weigh says what the session is after a turn, and how much its next one reads at a time.
func (s *session) weigh(t *turn) {
	more := s.load.class == poll.Light && s.n == s.most
	s.load.turn(t.frames, t.useless, more, s.lane.poller.Len(), t.received)
	switch {
	case t.frames >= 2*turnFrames:
		s.step = max(s.step/2, stepLeast)
	case t.frames < turnFrames:
		s.step = min(s.step*2, stepSize)
	}
	if s.all.cfg.turn != nil {
		s.all.cfg.turn(t.frames)
	}
}

// parse cuts buf.bytes[used:n] into frames, adds them and says up to where it used them.
func (t *turn) parse(used, n int) (int, error) {
	s := t.s
	if s.offset == 0 && used == 0 {
		switch may, err := otherProtocol(t.buf.bytes[:n]); {
		case err != nil:
			s.malformed(used, err)
			return used, errMalformed
		case may:
			return 0, nil
		}
	}
	for used < n {
		f, k, err := s.dec.Decode(t.buf.bytes[used:n])
		if err == nil && !f.ASCII && k > 0 && f.Type.IsReply() {
			err = errReplyType{f.Type}
		}
		if err != nil {
			s.malformed(used, err)
			return used, errMalformed
		}
		if k == 0 {
			break
		}
		t.add(f, used)
		t.frames++
		used += k
	}
	return used, nil
}

// errMalformed ends a session whose stream can't be read any further.
var errMalformed = errors.New("malformed stream")

// errReplyType is a sender that sends what only a server may.
type errReplyType struct{ t remote.Type }

func (e errReplyType) Error() string {
	return "a sender's message has the type of a reply: " + e.t.String()
}

// malformed counts and logs why a stream can't be read on.
func (s *session) malformed(used int, err error) {
	cause := metrics.MalformedType
	switch {
	case errors.Is(err, errTLS):
		cause = metrics.MalformedTLS
	case errors.Is(err, remote.ErrVersion):
		cause = metrics.MalformedVersion
	case errors.Is(err, remote.ErrLength):
		cause = metrics.MalformedLength
	case errors.Is(err, remote.ErrLineTooLong):
		cause = metrics.MalformedLine
	case errors.Is(err, errProxyHeader):
		cause = metrics.MalformedProxy
	}
	s.all.cfg.Metrics.Malformed.Add(cause, 1)
	s.warn("closed a connection: what it sent is neither a frame nor a line of the audisp-remote protocol",
		"offset", s.offset+int64(used), "cause", err)
}
