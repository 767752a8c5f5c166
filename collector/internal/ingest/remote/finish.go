package remote

import (
	"bytes"
	"errors"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/collector/internal/poll"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/proto/remote"
)

// linger is how long a closed connection's remaining input is thrown away: a socket
// closed with unread input sends a reset, which may overtake our replies.
const linger = 500 * time.Millisecond

// finish ends a session: waits until everything received has its reply, and says
// ENDING when it is the collector that goes.
func (s *session) finish(err error) {
	s.mu.Lock()
	ending := s.ending
	s.mu.Unlock()
	cause := metrics.ClosedByPeer
	switch {
	case errors.Is(err, errMalformed):
		cause = metrics.ClosedMalformed
	case ending:
		cause = metrics.ClosedShutdown
	case err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET):
		cause = metrics.ClosedError
	}
	if len(s.unfinished) > 0 && cause == metrics.ClosedByPeer && s.c.Cause() == "" {
		s.all.cfg.Metrics.Truncated.Inc()
		s.warn("a connection ended within a "+unfinishedKind(s.unfinished), "offset", s.offset, "bytes", len(s.unfinished))
	}
	if s.drain() && ending && s.c.Cause() == "" {
		s.sendEnding()
	}
	if cause == metrics.ClosedMalformed || ending {
		s.discard()
	}
	s.c.Shut(cause)
}

func unfinishedKind(b []byte) string {
	if bytes.HasPrefix(b, []byte{0xfe}) {
		return "frame"
	}
	return "line"
}

// drain waits until the queue is empty and nobody writes. It is false when all is given
// up before: somebody may be writing still.
func (s *session) drain() bool {
	for {
		s.mu.Lock()
		empty := len(s.queue) == 0 && !s.writing
		s.mu.Unlock()
		if empty {
			return true
		}
		select {
		case <-s.progress:
		case <-s.all.ctx.Done():
			return false
		}
	}
}

// sendEnding tells the sender that the collector stops. Nobody else writes now.
func (s *session) sendEnding() {
	s.out, s.outAt = remote.Append(s.out[:0], remote.Ending, 0, nil), 0
	_ = s.writeFor(linger)
}

// discard reads what the sender still sends until it has seen our end, for a short
// while.
func (s *session) discard() {
	if s.c.Sock().CloseWrite() != nil {
		return
	}
	s.unfinished = nil
	for began := time.Now(); ; {
		switch err := s.read(); {
		case errors.Is(err, errNothing):
			if s.poll.Wait(poll.In, linger-time.Since(began)) != nil {
				return
			}
		case err != nil || time.Since(began) > linger:
			s.dropBuffer()
			return
		}
		s.dropBuffer()
	}
}
