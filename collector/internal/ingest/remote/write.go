package remote

import (
	"errors"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/collector/internal/poll"
	"github.com/auditfleet/auditfleet/pkg/metrics"
)

// errBlocked is returned by write when the sender's window is full.
var errBlocked = errors.New("the sender does not take its replies")

// writeReplies writes the replies that are made, until there are none. The caller has
// set s.writing.
func (s *session) writeReplies() {
	for {
		some := s.nextReplies()
		s.all.evict()
		if !some {
			break
		}
		err := s.write()
		if errors.Is(err, errBlocked) {
			// A writer is for everybody: this sender gets a goroutine of its own
			// until it reads again or its time is over.
			s.all.slow.Add(1)
			go s.writeSlowly()
			return
		}
		s.written(err)
	}
	s.progress.Set()
}

func (s *session) writeSlowly() {
	defer s.all.slow.Done()
	s.all.owed.block(s)
	s.all.evict() // it may be what there was nobody to close for
	err := s.writeFor(s.all.cfg.WriteTimeout)
	s.all.owed.unblock(s)
	s.written(err)
	s.progress.Set()
	s.writeReplies()
}

// nextReplies puts the replies that are made into s.out. It is false, and the session no
// longer being written, when there are none.
func (s *session) nextReplies() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.replies) == 0 {
		s.writing = false
		return false
	}
	s.out, s.replies, s.outAt = s.replies, nil, 0
	return true
}

// written ends the writing of s.out.
func (s *session) written(err error) {
	n := len(s.out)
	s.all.putReplies(s.out)
	s.out = nil
	s.mu.Lock()
	switch {
	case s.broken: // all was given back then
	case err != nil:
		s.abandonReplies()
	default:
		s.owed -= n
		s.all.owed.add(-n)
	}
	s.mu.Unlock()
	if err == nil {
		return
	}
	cause := metrics.ClosedByPeer // it reset the connection, or we closed it
	if timedOut(err) {
		cause = metrics.ClosedSlow
		s.warn("closed a connection: it did not take its replies", "limit", s.all.cfg.WriteTimeout)
	}
	s.c.Shut(cause)
}

// timedOut says whether err is a deadline's.
func timedOut(err error) bool {
	var ne net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &ne) && ne.Timeout()
}

// write writes s.out from outAt on, and returns errBlocked where it would have to wait.
func (s *session) write() error {
	s.writeErr = nil
	if err := s.c.Sock().Control(s.writeFn); err != nil {
		return err
	}
	return s.writeErr
}

// writeFor is write that waits, for limit in all.
func (s *session) writeFor(limit time.Duration) error {
	for began := time.Now(); ; {
		if err := s.write(); !errors.Is(err, errBlocked) {
			return err
		}
		if err := s.poll.Wait(poll.Out, limit-time.Since(began)); err != nil {
			return err
		}
	}
}

func (s *session) writeSocket(fd uintptr) {
	for s.outAt < len(s.out) {
		n, err := poll.Write(fd, s.out[s.outAt:])
		if errors.Is(err, unix.EAGAIN) {
			err = errBlocked
		}
		if err != nil {
			s.writeErr = err
			return
		}
		s.outAt += n
	}
}
