package remote

import (
	"github.com/auditfleet/auditfleet/collector/internal/intake"
	"github.com/auditfleet/auditfleet/proto/remote"
)

// A session has a buffer of replies only while some wait, one of those that are kept
// unless they are many.
const keepReplies = turnFrames * remote.HeaderSize

func (all *Sessions) getReplies() []byte {
	if b, ok := all.replies.Get().(*[]byte); ok {
		return (*b)[:0]
	}
	return nil
}

func (all *Sessions) putReplies(b []byte) {
	if c := cap(b); c > 0 && c <= 2*keepReplies {
		all.replies.Put(&b)
	}
}

// settle makes the replies of every batch that is finished and has no unfinished one
// before it, and says whether there was any. In flight is what is not stored yet: a
// sender that does not take its replies holds nothing of it. mu is held.
func (s *session) settle() bool {
	n := 0
	for n < len(s.queue) && s.queue[n].finished {
		n++
	}
	if n == 0 {
		return false
	}
	now := s.all.cfg.Now()
	before, size := len(s.replies), 0
	if s.replies == nil {
		s.replies = s.all.getReplies()
	}
	for _, p := range s.queue[:n] {
		size += p.size
		s.replies = p.appendReplies(s.replies, s.all.in.Settle(&p.Batch, p.err, now))
	}
	rest := copy(s.queue, s.queue[n:])
	clear(s.queue[rest:])
	s.queue = s.queue[:rest]
	s.inFlight -= size
	s.replied = now
	if s.inFlight == 0 {
		s.c.Busy(false)
	}
	s.all.in.Leave(size)
	if s.broken {
		s.replies = nil // nobody is there to be told
		return true
	}
	if len(s.replies) == 0 {
		s.all.putReplies(s.replies) // lines have none
		s.replies = nil
	}
	made := len(s.replies) - before
	s.owed += made
	s.all.owed.add(made)
	return true
}

// answers are the replies to a record and their text, in the stock server's words.
var answers = [...]struct {
	t    remote.Type
	text string
}{
	intake.Stored:    {remote.Ack, ""},
	intake.StoredLow: {remote.DiskLow, ""},
	intake.Full:      {remote.DiskFull, "disk full"},
	intake.Suspended: {remote.DiskError, "remote logging suspended"},
	intake.Failed:    {remote.DiskError, "disk write error"},
}

// appendReplies appends one reply a managed record, in order, heartbeats among them.
func (p *pending) appendReplies(out []byte, v intake.Verdict) []byte {
	if !p.Managed {
		return out
	}
	a, beats := answers[v], p.beats
	for i := range p.seqs {
		for len(beats) > 0 && int(beats[0].after) == i {
			out = remote.AppendHeader(out, remote.Ack, beats[0].seq, 0)
			beats = beats[1:]
		}
		out = append(remote.AppendHeader(out, a.t, p.seqs[i], len(a.text)), a.text...)
	}
	for _, b := range beats {
		out = remote.AppendHeader(out, remote.Ack, b.seq, 0)
	}
	return out
}
