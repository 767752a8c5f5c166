package ingest

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/collector/internal/poll"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/pkg/seglog"
	"github.com/auditfleet/auditfleet/proto/remote"
)

// A session has a buffer of replies only while some wait, one of those that are kept
// unless they are many.
const keepReplies = turnFrames * remote.HeaderSize

func (in *Ingest) takeReplies() []byte {
	if b, ok := in.replies.Get().(*[]byte); ok {
		return (*b)[:0]
	}
	return nil
}

func (in *Ingest) giveReplies(b []byte) {
	if c := cap(b); c > 0 && c <= 2*keepReplies {
		in.replies.Put(&b)
	}
}

// errBlocked is returned by write when the sender's window is full.
var errBlocked = errors.New("the sender does not take its replies")

// writeReplies writes the replies that are made, until there are none. The caller has
// set s.writing.
func (s *session) writeReplies() {
	for {
		some, news := s.takeMade()
		s.in.tell(news)
		if !some {
			break
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
	}
	s.room.Set()
}

func (s *session) writeSlowly() {
	defer s.in.slow.Done()
	s.in.owed.block(s)
	s.in.evict() // it may be what there was nobody to close for
	err := s.writeFor(s.in.cfg.WriteTimeout)
	s.in.owed.unblock(s)
	s.wrote(err)
	s.room.Set()
	s.writeReplies()
}

// takeMade puts the replies that are made into s.out. It is false, and the session no
// longer being written, when there are none.
func (s *session) takeMade() (some bool, news news) {
	s.mu.Lock()
	defer s.mu.Unlock()
	news, s.news = s.news, news
	if len(s.made) == 0 {
		s.writing = false
		return false, news
	}
	s.out, s.made, s.outAt = s.made, nil, 0
	return true, news
}

// wrote notes the end of a write.
func (s *session) wrote(err error) {
	n := len(s.out)
	s.in.giveReplies(s.out)
	s.out = nil
	s.mu.Lock()
	switch {
	case s.broken: // all was given back then
	case err != nil:
		s.give()
	default:
		s.owed -= n
		s.in.owed.add(-n)
	}
	s.mu.Unlock()
	if err == nil {
		return
	}
	cause := metrics.ClosedByPeer // it reset the connection, or we closed it
	if timedOut(err) {
		cause = metrics.ClosedSlow
		s.warn("closed a connection: it did not take its replies", "limit", s.in.cfg.WriteTimeout)
	}
	s.c.Shut(cause)
}

// news is what is to be said of batches that are over, and might block.
type news struct {
	stored  bool  // one was
	refused error // why one was not
}

// settle makes the replies of every batch that is finished and has no unfinished one
// before it, and says how many bytes are no longer in flight. In flight is what is not
// stored yet: a sender that does not take its replies holds nothing of it. mu is held.
func (s *session) settle() (size int) {
	m := s.in.cfg.Metrics
	k := 0
	for k < len(s.queue) && s.queue[k].finished {
		k++
	}
	if k == 0 {
		return 0
	}
	now := s.in.cfg.Now()
	before := len(s.made)
	if s.made == nil {
		s.made = s.in.takeReplies()
	}
	for _, p := range s.queue[:k] {
		size += p.size
		s.made = p.appendReplies(s.made)
		switch {
		case p.err != nil:
			s.news.refused = p.err
		case len(p.seqs) > 0:
			s.news.stored = true
			m.AckSeconds.Observe(now.Sub(p.received).Seconds())
		}
	}
	rest := copy(s.queue, s.queue[k:])
	clear(s.queue[rest:])
	s.queue = s.queue[:rest]
	s.inFlight -= size
	s.replied = now
	if s.inFlight == 0 {
		s.c.Busy(false)
	}
	m.InFlight.Sub(float64(size))
	s.in.total.Release(int64(size))
	if s.broken {
		s.made = nil // nobody is there to be told
		return size
	}
	if len(s.made) == 0 {
		s.in.giveReplies(s.made) // lines have none
		s.made = nil
	}
	n := len(s.made) - before
	s.owed += n
	s.in.owed.add(n)
	return size
}

// tell does what follows from batches that are over.
func (in *Ingest) tell(n news) {
	if n.refused != nil {
		in.refuse(n.refused)
	}
	if n.stored && in.refusing.CompareAndSwap(true, false) {
		in.cfg.Log.Info("records are stored again")
		in.cfg.Outcome(nil)
	}
	in.evict()
}

// verdict is the reply to a batch's records, its text, and the reason it is counted
// under when they are not stored.
func verdict(err error) (t remote.Type, text, reason string) {
	switch {
	case err == nil:
		return remote.Ack, "", ""
	case errors.Is(err, ErrSuspended):
		return remote.DiskError, "remote logging suspended", metrics.RejectedSuspended
	case errors.Is(err, ErrFull) || errors.Is(err, seglog.ErrNoSpace) || fsys.NoRoom(err):
		return remote.DiskFull, "disk full", metrics.RejectedFull
	}
	return remote.DiskError, "disk write error", metrics.RejectedError
}

// whatToDo says it of a reason.
var whatToDo = map[string]string{
	metrics.RejectedSuspended: "resume it with SIGUSR2 when the cause is gone",
	metrics.RejectedFull:      "make room on the disk of the store",
	metrics.RejectedError:     "look at the disk of the store",
}

// appendReplies appends one reply a managed record, in order, and counts.
func (p *pending) appendReplies(out []byte) []byte {
	m := p.s.in.cfg.Metrics
	t, text, reason := verdict(p.err)
	switch {
	case len(p.seqs) == 0:
	case reason != "":
		m.Rejected.Add(reason, len(p.seqs))
	default:
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
		for len(beats) > 0 && int(beats[0].after) == i {
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
func (in *Ingest) refuse(err error) {
	in.refusing.Store(true)
	in.cfg.Outcome(err)
	ok, suppressed := in.refused.Allow()
	if !ok {
		return
	}
	_, _, reason := verdict(err)
	in.cfg.Log.Error("records are not stored, their senders are told to keep them: "+whatToDo[reason], "error", err, "suppressed", suppressed)
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
