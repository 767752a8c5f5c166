package remote

import (
	"slices"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/intake"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/poll"
	"github.com/auditfleet/auditfleet/proto/remote"
)

// pending is a batch and the heartbeats that came with it, from receipt until their
// replies are made, in one piece of memory: one and seq hold what a batch of one record
// needs.
type pending struct {
	intake.Batch
	s        *session
	seqs     []uint32 // of the records as they came: the journal takes resends out of the batch
	beats    []beat
	size     int   // bytes received
	finished bool  // guarded by s.mu: it was stored, or it was not
	err      error // guarded by s.mu: why not
	one      [1]journal.Record
	seq      [1]uint32
}

// beat is a heartbeat that came after so many of the batch's records.
type beat struct{ after, seq uint32 }

// A sender that sends hotStreak times in a row within hotAfter of its last answer, or
// before it, sends as fast as it is answered: what comes is read at once. Of others,
// it is a record now and then, and the poller may wait a moment for those of others.
// Over a link of hotAfter and more the former can't be told from the latter, and its
// round trip becomes longer by that moment.
const (
	hotAfter  = 20 * time.Millisecond
	hotStreak = 3
)

// add adds a frame, which begins at start.
func (t *turn) add(f remote.Frame, start int) {
	m := t.s.all.cfg.Metrics
	if managed := !f.ASCII; managed != t.managed {
		t.s.submit(t.pack(start))
		t.managed = managed
	}
	switch {
	case f.Type == remote.Heartbeat && !f.ASCII:
		t.useless++
		m.Heartbeats.Inc()
		t.addBeat(f.Seq)
	case len(f.Payload) == 0:
		// Nothing to store; a managed one is owed its reply all the same.
		t.useless++
		t.s.all.in.Empty(1)
		if !f.ASCII {
			t.addBeat(f.Seq)
		}
	case f.ASCII:
		t.buf.spans = append(t.buf.spans, span{start: start, end: start + len(f.Payload)})
	default:
		// An unknown type that is no reply is a record, as for the stock server.
		text := start + remote.HeaderSize // its end may be a newline, which is no part of the record
		t.buf.spans = append(t.buf.spans, span{seq: f.Seq, start: text, end: text + len(f.Payload)})
	}
}

// addBeat adds a heartbeat, or what is owed an answer like one.
func (t *turn) addBeat(seq uint32) {
	t.buf.beats = append(t.buf.beats, beat{after: uint32(len(t.buf.spans)), seq: seq}) //nolint:gosec // a turn's
}

// pack makes a batch of what was added since the last one, which ends at end, and
// puts it into the session's queue; nil when there is nothing.
func (t *turn) pack(end int) *pending {
	start, spans, beats := t.start, t.buf.spans, t.buf.beats
	t.start, t.buf.spans, t.buf.beats = end, spans[:0], beats[:0]
	if len(spans) == 0 && len(beats) == 0 {
		return nil
	}
	s := t.s
	p := &pending{s: s, beats: slices.Clone(beats), size: end - start}
	p.Conn, p.Sender, p.Managed, p.Heavy, p.Received = s.source.Conn, s.source.Sender, t.managed, s.load.class != poll.Light, t.received
	if len(spans) > 0 {
		// The records' bytes belong to the journal and what comes after it from now
		// on: they get memory of their own, of exactly their size.
		text := append([]byte(nil), t.buf.bytes[start:end]...)
		p.Records, p.seqs = p.one[:], p.seq[:]
		if len(spans) > 1 {
			p.Records, p.seqs = make([]journal.Record, len(spans)), make([]uint32, len(spans))
		}
		for i, sp := range spans {
			p.Records[i] = journal.Record{Seq: sp.seq, Raw: text[sp.start-start : sp.end-start : sp.end-start]}
			p.seqs[i] = sp.seq
		}
	}
	t.buf.entered += p.size
	s.all.in.Enter(p.size)
	s.enqueue(p)
	return p
}

// enqueue puts a batch behind those without replies, and tells the poller of a sender
// that sends as fast as it is answered.
func (s *session) enqueue(p *pending) {
	s.mu.Lock()
	s.queue = append(s.queue, p)
	first := s.inFlight == 0
	soon := !first || p.Received.Sub(s.replied) < hotAfter
	s.inFlight += p.size
	if first {
		s.c.Busy(true)
	}
	s.mu.Unlock()
	if s.streak++; !soon {
		s.streak = 0
	}
	if s.streak >= hotStreak {
		s.lane.poller.Hot()
	}
}
