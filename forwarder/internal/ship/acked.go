package ship

import "time"

// AckedBy is what one server has acknowledged of one stream without another one in between:
// where servers take turns, each turn has an entry.
type AckedBy struct {
	Server  string   // as it is configured
	Peer    Peer     // who that was
	Stream  [16]byte // that the records are of
	From    uint64   // the least index among them
	To      uint64   // the greatest
	Records uint64   // how many; of the others between From and To none was to be delivered
	When    time.Time

	past uint64 // the greatest of before the start: what is acknowledged again up to there is not counted again
}

// MaxAckedBy is how many entries are kept: the latest.
const MaxAckedBy = 256

// LastAcked returns the last entry of AckedBy, and how many entries there have been: while that
// stays the same, only the last entry grows. Any goroutine may call it.
func (s *Sender) LastAcked() (last AckedBy, entries uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.ackedBy); n > 0 {
		last = *s.ackedBy[n-1]
	}
	return last, s.turns
}

// AckedBy returns who has acknowledged what, in the order in which it was acknowledged;
// entries of before the start, which Config has, among them. Any goroutine may call it.
func (s *Sender) AckedBy() []AckedBy {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]AckedBy, len(s.ackedBy))
	for i, by := range s.ackedBy {
		out[i] = *by
	}
	return out
}

// ackedCount is how many records a server has acknowledged since the start.
type ackedCount struct {
	server string
	n      uint64
}

// MaxAckedCounts is how many servers AckedCounts tells apart: further ones count as the last.
const MaxAckedCounts = 16

// AckedCounts returns how many records each server has acknowledged since the start, in the order in
// which they first did; nil where there is one server only. Any goroutine may call it.
func (s *Sender) AckedCounts() (out []uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.cfg.Servers) < 2 && len(s.counts) < 2 {
		return nil
	}
	for _, c := range s.counts {
		out = append(out, c.n)
	}
	return out
}

// countOf returns a server's count. Called with mu.
func (s *Sender) countOf(server string) *ackedCount {
	for _, c := range s.counts {
		if c.server == server {
			return c
		}
	}
	if n := len(s.counts); n == MaxAckedCounts {
		return s.counts[n-1]
	}
	s.counts = append(s.counts, &ackedCount{server: server})
	return s.counts[len(s.counts)-1]
}

func (s *Sender) keepAcked() {
	if s.cfg.KeepAcked != nil {
		s.cfg.KeepAcked()
	}
}

// credit notes that the session's server has a record. Called with mu.
//
// A server that said, when the connection began, that it holds all up to there has passed over
// what others got: of what was acknowledged before the start, the entries know who has it.
func (c *session) credit(index uint64) {
	if index < c.heldFirst && index <= c.past {
		return
	}
	by := c.by
	if by == nil || index < by.From || index >= c.byEnd || by != c.ackedBy[len(c.ackedBy)-1] {
		by = c.entry(index)
	}
	by.From, by.To = min(by.From, index), max(by.To, index)
	if index > by.past {
		by.Records++
		if c.count == nil {
			c.count = c.countOf(c.server)
		}
		c.count.n++
	}
}

// entry returns the entry that a record belongs to. Called with mu.
func (c *session) entry(index uint64) *AckedBy {
	id, end := c.src.Stream(index)
	c.byEnd = end
	if n := len(c.ackedBy); n > 0 {
		if by := c.ackedBy[n-1]; by.Server == c.server && by.Peer == c.peer && by.Stream == id {
			c.by = by
			return by
		}
		if n >= MaxAckedBy {
			copy(c.ackedBy, c.ackedBy[1:])
			c.ackedBy = c.ackedBy[:n-1]
		}
	}
	c.by = &AckedBy{Server: c.server, Peer: c.peer, Stream: id, From: index, To: index, When: time.Now()}
	c.ackedBy = append(c.ackedBy, c.by)
	c.turns++
	return c.by
}
