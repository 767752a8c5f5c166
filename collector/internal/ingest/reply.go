package ingest

import (
	"errors"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/poll"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/pkg/seglog"
	"github.com/auditfleet/auditfleet/proto/remote"
	"golang.org/x/sys/unix"
)

// keepOut is the most an idle session keeps allocated for replies.
const keepOut = 4 << 10

// errBlocked is returned by write when the sender's window is full.
var errBlocked = errors.New("the sender does not take its replies")

// writeReplies writes the replies of every batch that is finished and has no
// unfinished one before it, until there are none. The caller has set s.writing.
func (s *session) writeReplies() {
	for {
		if !s.takeFinished() {
			s.wake()
			return
		}
		if len(s.out) == 0 {
			s.wake()
			continue
		}
		err := s.write()
		if errors.Is(err, errBlocked) {
			// An acker is for everybody: this sender gets a goroutine of its own
			// until it reads again or its time is over.
			s.in.slow.Add(1)
			go s.writeSlowly()
			return
		}
		s.wrote(err)
		s.wake()
	}
}

func (s *session) writeSlowly() {
	defer s.in.slow.Done()
	s.wrote(s.writeFor(s.in.cfg.WriteTimeout))
	s.wake()
	s.writeReplies()
}

// wrote notes the end of a write.
func (s *session) wrote(err error) {
	if cap(s.out) > keepOut {
		s.out = nil
	}
	s.outAt = len(s.out)
	if err == nil {
		return
	}
	s.mu.Lock()
	s.broken = true
	s.mu.Unlock()
	cause := metrics.ClosedByPeer // it reset the connection, or we closed it
	if timedOut(err) {
		cause = metrics.ClosedSlow
		s.warn("closed a connection: it did not take its replies", "limit", s.in.cfg.WriteTimeout)
	}
	s.c.Shut(cause)
}

// takeFinished makes the replies of the finished batches at the front of the
// queue in s.out. It is false, and the session no longer being written, when
// there are none.
func (s *session) takeFinished() bool {
	m := s.in.cfg.Metrics
	s.mu.Lock()
	k, size := 0, 0
	for k < len(s.queue) && s.queue[k].finished {
		size += s.queue[k].size
		k++
	}
	if k == 0 {
		s.writing = false
		s.mu.Unlock()
		return false
	}
	var few [8]*pending
	taken := append(few[:0], s.queue[:k]...)
	rest := copy(s.queue, s.queue[k:])
	clear(s.queue[rest:])
	s.queue = s.queue[:rest]
	s.inFlight -= size
	now := s.in.cfg.Now()
	s.replied = now
	if s.inFlight == 0 {
		s.c.Busy(false)
	}
	s.mu.Unlock()
	m.InFlight.Sub(float64(size))
	s.in.total.Release(int64(size))
	s.out, s.outAt = s.out[:0], 0
	for _, p := range taken {
		s.out = p.appendReplies(s.out)
		if p.err == nil && len(p.seqs) > 0 {
			m.AckSeconds.Observe(now.Sub(p.received).Seconds())
		}
	}
	return true
}

// appendReplies appends one reply a managed record, in order, and counts.
func (p *pending) appendReplies(out []byte) []byte {
	m := p.s.in.cfg.Metrics
	t, text := remote.Ack, []byte(nil)
	switch {
	case p.err != nil:
		reason, do := metrics.RejectedError, "look at the disk of the store"
		t, text = remote.DiskError, []byte("disk write error")
		switch {
		case errors.Is(p.err, ErrSuspended):
			reason, do = metrics.RejectedSuspended, "resume it with SIGUSR2 when the cause is gone"
			text = []byte("remote logging suspended")
		case errors.Is(p.err, ErrFull) || errors.Is(p.err, seglog.ErrNoSpace) || errors.Is(p.err, unix.ENOSPC) || errors.Is(p.err, unix.EDQUOT):
			reason, do = metrics.RejectedFull, "make room on the disk of the store"
			t, text = remote.DiskFull, []byte("disk full")
		}
		p.s.in.refuse(p.err, do)
		if len(p.seqs) > 0 {
			m.Rejected.Add(reason, len(p.seqs))
		}
	case len(p.seqs) > 0:
		if p.s.in.refusing.CompareAndSwap(true, false) {
			p.s.in.cfg.Log.Info("records are stored again")
			p.s.in.cfg.Outcome(nil)
		}
		m.Records.Add(float64(len(p.seqs)))
		m.Bytes.Add(float64(p.text))
		if p.s.in.cfg.Low != nil && p.s.in.cfg.Low() {
			t = remote.DiskLow
		}
	}
	if !p.managed {
		return out
	}
	beats := p.beats
	for i := range p.seqs {
		for len(beats) > 0 && beats[0].after == i {
			out = remote.AppendHeader(out, remote.Ack, beats[0].seq, 0)
			beats = beats[1:]
		}
		out = append(remote.AppendHeader(out, t, p.seqs[i], len(text)), text...)
	}
	for _, b := range beats {
		out = remote.AppendHeader(out, remote.Ack, b.seq, 0)
	}
	return out
}

// refuse logs that records are not stored, not for each of them.
func (in *Ingest) refuse(err error, do string) {
	in.refusing.Store(true)
	in.cfg.Outcome(err)
	ok, suppressed := in.refused.allow()
	if !ok {
		return
	}
	in.cfg.Log.Error("records are not stored, their senders are told to keep them: "+do, "error", err, "suppressed", suppressed)
}

// write writes s.out from outAt on, and returns errBlocked where it would have to wait.
func (s *session) write() error {
	s.wrErr = nil
	if err := s.c.Sock().Control(s.writeFn); err != nil {
		return err
	}
	return s.wrErr
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
		n, err := unix.Write(int(fd), s.out[s.outAt:])
		switch err {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			err = errBlocked
		}
		if err != nil {
			s.wrErr = err
			return
		}
		s.outAt += n
	}
}
