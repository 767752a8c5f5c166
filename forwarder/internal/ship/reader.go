package ship

import (
	"errors"
	"fmt"
	"time"
)

const (
	// fewReplies at once, or less, make the reader rest before it reads again, between
	// minRest and maxRest.
	fewReplies = 32
	minRest    = 100 * time.Microsecond
	maxRest    = time.Millisecond
	// maxOdd is how many more replies may settle nothing than settle something: a server
	// that says everything twice is borne with.
	maxOdd = 1024
)

// errOdd ends a session whose server answers what was not asked.
var errOdd = errors.New("too many replies to nothing that was sent")

// read is the reader's loop.
func (c *session) read() {
	defer func() {
		close(c.dead)
		c.conn.SetSendDeadline(time.Now()) // a blocked writer is to notice
	}()
	var replies []Reply
	for {
		var err error
		replies, err = c.conn.Receive(replies[:0])
		if odd := c.settle(replies); odd != nil {
			c.err = fmt.Errorf("reply: %w", odd)
			return
		}
		switch {
		case err == nil:
		case isTimeout(err):
			c.mu.Lock()
			late := !c.expires.IsZero() && !time.Now().Before(c.expires)
			c.mu.Unlock()
			if !late {
				continue // the deadline was moved meanwhile
			}
			c.err = fmt.Errorf("no reply in %v: %w", c.cfg.ReplyTimeout, err)
			return
		default:
			c.err = err
			return
		}
		if c.rest > 0 {
			time.Sleep(c.rest)
		}
	}
}

// settle handles replies that came together. It returns an error when the server has
// answered too much that was not asked.
func (c *session) settle(replies []Reply) (err error) {
	if len(replies) == 0 {
		return nil
	}
	var (
		stored  uint64
		plainly bool // one without a complaint
		known   uint64
		reports []Report
	)
	c.mu.Lock()
	beating := c.beating
	for i := range replies {
		r := &replies[i]
		if n := c.reply(r); n == 0 {
			if c.odd++; c.odd > maxOdd {
				err = errOdd
				break
			}
		} else {
			known++
			c.odd = max(0, c.odd-1)
			if r.Outcome == Stored {
				stored += n
				plainly = plainly || r.Complaint == nil
			}
		}
		if r.Complaint != nil {
			reports = append(reports, c.reportOf(r))
		}
	}
	if stored > 0 {
		c.m.Acked.Add(stored)
		c.failures = 0
	}
	c.m.InFlight.Store(int64(c.win.flying))
	c.settled.Add(known)
	now := time.Now()
	if stored > 0 && c.by != nil {
		c.by.When = now
	}
	c.expect(now, known > 0)
	c.pace(now, len(replies))
	c.mu.Unlock()

	for _, r := range reports {
		c.obey(r)
	}
	c.release()
	if plainly {
		c.delivered()
	}
	c.mu.Lock()
	// A full window is refilled by the quarter, or there would be one write for
	// every reply.
	wake := c.starved && c.win.n <= len(c.win.ring)*3/4 ||
		c.win.flying == 0 && (c.starved || c.leaving || c.refused) ||
		c.ending || beating && !c.beating
	c.mu.Unlock()
	if wake || len(reports) > 0 {
		c.wake.Set()
	}
	return err
}

// reply takes in one reply, and returns how much it settled: heartbeats answered, or records
// stored or refused. Called with mu.
func (c *session) reply(r *Reply) (n uint64) {
	if r.Complaint != nil {
		c.m.complaints(r.Complaint.Condition).Add(1)
	}
	if r.To > 0 {
		return c.replyRange(r)
	}
	if c.replyOne(r) {
		return 1
	}
	return 0
}

// replyRange is reply for a reply about records in a row. Those that are stored need not be
// in flight: they may have been sent over an earlier connection.
func (c *session) replyRange(r *Reply) (n uint64) {
	if r.Outcome == Stored {
		c.heldFrom, c.held = r.From, r.To
		if c.store != "" {
			id, _ := c.src.Stream(r.From)
			c.promises.add(c.server, c.store, id, r.From, r.To)
		}
		c.round = 0
	}
	for i := c.win.search(r.From); i < c.win.n; i++ {
		s := c.win.at(i)
		if s.index >= r.To {
			break
		}
		switch {
		case r.Outcome == Stored && s.state != done:
			c.win.settle(s, done)
			c.credit(s.index)
			n++
		case r.Outcome == Refused && s.state == inFlight:
			c.win.settle(s, waiting)
			c.refused = true
			c.Sender.refused = max(c.Sender.refused, s.index)
			n++
		}
	}
	if n == 0 {
		c.m.UnexpectedReplies.Add(1)
	}
	return n
}

// replyOne is reply for a reply about one record, or none.
func (c *session) replyOne(r *Reply) (settled bool) {
	var s *slot
	switch r.Outcome {
	case Ending:
		c.ending = true // reported when the session is over
		c.m.Endings.Add(1)
		return false
	case Alive:
		settled, c.beating = c.beating, false
	case Stored, Refused:
		if s = c.win.find(r.Seq); s != nil && s.state != inFlight {
			s = nil
		}
		settled = s != nil
	}
	switch {
	case !settled:
		// Said twice, or of nothing we know: the record in question stays what it is.
		c.m.UnexpectedReplies.Add(1)
	case r.Outcome == Refused:
		c.win.settle(s, waiting)
		c.refused = true
		c.Sender.refused = max(c.Sender.refused, s.index)
	case r.Outcome == Stored:
		c.win.settle(s, done)
		c.credit(s.index)
		c.round = 0
	}
	return settled
}

// reportOf is what the Handler is told of a complaint. Called with mu.
func (c *session) reportOf(r *Reply) Report {
	out := Report{Condition: r.Complaint.Condition, Server: c.server, Reply: r.Complaint.Name, Text: r.Complaint.Text}
	if r.To > 0 {
		out.Index = r.From
	} else if s := c.win.find(r.Seq); s != nil {
		out.Index = s.index
	}
	return out
}

// pace decides how long the reader leaves replies to gather before it looks
// again: about as long as an eighth of the window takes to come, and only while
// half of the window is still out, so that the peer doesn't run dry. A stock
// server sends each reply by itself, and a wakeup costs more than all the rest
// that a record costs here. Replies that come by the dozen need none of this.
// Called with mu.
func (c *session) pace(now time.Time, got int) {
	c.rest = 0
	if got > 0 && got <= fewReplies && !c.lastReply.IsZero() && c.win.flying >= 16 && c.win.flying >= len(c.win.ring)/2 && !c.refused && !c.ending && !c.leaving {
		each := now.Sub(c.lastReply) / time.Duration(got)
		if rest := each * time.Duration(len(c.win.ring)/8); rest >= minRest {
			c.rest = min(rest, maxRest)
		}
	}
	if got > 0 {
		c.lastReply = now
	}
}

// obey reports a reply and does what the Handler wants.
func (c *session) obey(r Report) {
	d := c.report(r)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch d {
	case Drop:
		if s := c.slotOf(r.Index); r.Condition.Refuses() && s != nil && s.state == waiting {
			c.win.settle(s, done)
			c.m.Dropped.Add(1)
		}
	case Suspend:
		c.suspend()
	}
}

// slotOf finds a record in the window. Called with mu.
func (s *Sender) slotOf(index uint64) *slot {
	i := s.win.search(index)
	if index == 0 || i == s.win.n || s.win.at(i).index != index {
		return nil
	}
	return s.win.at(i)
}

// delivered reports the first plainly stored record after trouble. While a refused
// one is still to be stored there is no end of it, whatever comes through beside.
func (c *session) delivered() {
	first := c.src.First()
	c.mu.Lock()
	trouble := c.trouble && first > c.Sender.refused
	if trouble {
		c.trouble = false
	}
	c.mu.Unlock()
	if trouble {
		c.report(Report{Condition: Recovered, Server: c.server})
	}
}
