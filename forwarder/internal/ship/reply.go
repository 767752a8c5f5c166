package ship

import (
	"sort"
	"time"

	"github.com/auditfleet/auditfleet/proto/remote"
)

// replies handles every whole reply in buf and says how many bytes they were.
func (c *session) replies(dec *remote.Decoder, buf []byte) (used int, err error) {
	if len(buf) == 0 {
		return 0, nil
	}
	var (
		acked   uint64
		plain   bool // an ACK without a complaint
		got     int
		settled uint64
		reports []Report
	)
	c.mu.Lock()
	beating := c.beating
	for {
		f, n, derr := dec.Decode(buf[used:])
		if derr == nil && n > 0 && (f.ASCII || !f.Type.IsReply()) {
			derr = errNotReply
		}
		if derr != nil {
			err = derr
			break
		}
		if n == 0 {
			break
		}
		used += n
		got++
		report, said := c.reply(f)
		switch said {
		case nothing:
			if c.odd++; c.odd > maxOdd {
				err = errOdd
			}
		default:
			settled++
			c.odd = max(0, c.odd-1)
		}
		if said == isStored {
			acked++
			plain = plain || report == 0
		}
		if err != nil {
			break
		}
		if report != 0 {
			s := c.win.find(f.Seq)
			r := Report{Condition: report, Server: c.server, Reply: f.Type, Text: string(f.Payload)}
			if s != nil {
				r.Index = s.index
			}
			reports = append(reports, r)
		}
	}
	if acked > 0 {
		c.m.Acked.Add(acked)
		c.failures = 0
	}
	c.m.InFlight.Store(int64(c.win.flying))
	c.settled.Add(settled)
	now := time.Now()
	c.expect(now, settled > 0)
	c.pace(now, got)
	c.mu.Unlock()

	for _, r := range reports {
		c.obey(r)
	}
	c.release()
	if plain {
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
		c.poke()
	}
	return used, err
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

// poke wakes the writer.
func (c *session) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// outcome is what one reply settled.
type outcome uint8

const (
	nothing  outcome = iota // it is for nothing that is in flight
	isKnown                 // a heartbeat is answered, or a record refused
	isStored                // a record is stored
)

// reply settles what one reply is for. It returns the condition to report, 0 for
// none, and what it settled. Called with mu.
func (c *session) reply(f remote.Frame) (report Condition, said outcome) {
	if f.Type == remote.Ending {
		c.ending = true
		c.m.Endings.Add(1)
		return 0, nothing // reported when the session is over
	}
	switch {
	case f.Type == remote.DiskFull:
		c.m.DiskFull.Add(1)
		report = DiskFull
	case f.Type == remote.DiskError:
		c.m.DiskError.Add(1)
		report = DiskError
	case f.Type.IsFatal():
		c.m.OtherErrors.Add(1)
		report = GenericError
	case f.Type == remote.DiskLow:
		c.m.DiskLow.Add(1)
		report = DiskLow
	case f.Type.IsWarning():
		c.m.OtherWarnings.Add(1)
		report = GenericWarning
	}
	if c.beating && f.Seq == c.beatSeq {
		c.beating = false
		return report, isKnown
	}
	s := c.win.find(f.Seq)
	if s == nil || s.state != inFlight {
		// Said twice, or of nothing we know: the record in question stays what it is.
		c.m.UnexpectedReplies.Add(1)
		return report, nothing
	}
	if f.Type.IsFatal() {
		c.win.settle(s, waiting)
		c.refused = true
		c.Sender.refused = max(c.Sender.refused, s.index)
		return report, isKnown
	}
	// A plain reply of an unknown type counts as an ACK, as with the stock sender.
	c.win.settle(s, done)
	c.round = 0
	return report, isStored
}

// obey reports a reply and does what the Handler wants.
func (c *session) obey(r Report) {
	d := c.report(r)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch d {
	case Drop:
		if s := c.slotOf(r.Index); r.Reply.IsFatal() && s != nil && s.state == waiting {
			c.win.settle(s, done)
			c.m.Dropped.Add(1)
		}
	case Suspend:
		c.suspend()
	}
}

// slotOf finds a record in the window. Called with mu.
func (s *Sender) slotOf(index uint64) *slot {
	i := sort.Search(s.win.n, func(i int) bool { return s.win.at(i).index >= index })
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
