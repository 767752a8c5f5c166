package grpc

import (
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/auditfleet/auditfleet/collector/internal/intake"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// maxQueue is the most that may wait for an answer, whatever its size.
const maxQueue = 256

// push queues what is to be answered.
func (c *session) push(p *pending) {
	if p.what != aBatch && c.await(0) != nil {
		return // the call has ended
	}
	c.mu.Lock()
	c.queue = append(c.queue, p)
	c.inFlight += p.bytes
	finished := p.finished
	c.mu.Unlock()
	if finished {
		c.progress.Set()
	}
}

// done is called when a batch's records are stored, or are not. It does not block.
func (p *pending) done(err error) {
	c := p.s
	c.mu.Lock()
	p.finished, p.err = true, err
	first := len(c.queue) > 0 && c.queue[0] == p
	c.mu.Unlock()
	c.all.cfg.Intake.Leave(p.bytes) // once: the journal calls done once, or Submit has failed
	if first {
		c.progress.Set()
	}
}

// reply sends the answers to what is finished, in order: one for all the batches in a row
// that are stored. opened says that an Open was among it.
func (c *session) reply() (opened bool, err error) {
	var stored *fleet.Stored
	flush := func() error {
		if stored == nil {
			return nil
		}
		m := &fleet.StreamResponse{Message: &fleet.StreamResponse_Stored{Stored: stored}}
		stored = nil
		return c.send(m)
	}
	for {
		p := c.pop()
		if p == nil {
			return opened, flush()
		}
		if p.what == aBatch {
			v := c.settle(p)
			if v == intake.Stored || v == intake.StoredLow {
				stored = &fleet.Stored{Next: p.next, Pressure: c.pressure(v)}
				continue
			}
			if err := flush(); err != nil {
				return opened, err
			}
			if err := c.send(refusal(p, v)); err != nil {
				return opened, err
			}
			continue
		}
		if err := flush(); err != nil {
			return opened, err
		}
		m := &fleet.StreamResponse{Message: &fleet.StreamResponse_Alive{Alive: &fleet.Alive{}}}
		switch p.what {
		case aProof:
			m.Message = &fleet.StreamResponse_Consistency{Consistency: p.proof}
		case anOpen:
			opened, c.witness = true, p.witness
			o := &fleet.Opened{Held: p.next}
			if p.sure {
				o.Store = c.all.store
			}
			m.Message = &fleet.StreamResponse_Opened{Opened: o}
		}
		if err := c.send(m); err != nil {
			return opened, err
		}
	}
}

// pop takes the oldest that is finished, nil where it is not.
func (c *session) pop() *pending {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 || !c.queue[0].finished {
		return nil
	}
	p := c.queue[0]
	c.queue[0] = nil
	if c.queue = c.queue[1:]; len(c.queue) == 0 {
		c.queue = nil
	}
	c.inFlight -= p.bytes
	c.room.Set()
	return p
}

// settle says what a batch's sender is told.
func (c *session) settle(p *pending) intake.Verdict {
	if errors.Is(p.err, journal.ErrGap) {
		c.all.cfg.Metrics.Gaps.Inc()
		return gap
	}
	return c.all.cfg.Intake.Settle(&p.Batch, p.err, c.all.cfg.Now())
}

// gap is beside intake's verdicts: nothing is wrong here, and what is refused comes again.
const gap intake.Verdict = 255

// settleRest settles what nobody is left to be told of, when receiving has ended.
func (c *session) settleRest() {
	for {
		c.mu.Lock()
		left := len(c.queue)
		c.mu.Unlock()
		if left == 0 {
			return
		}
		if p := c.pop(); p != nil {
			if p.what == aBatch {
				c.settle(p)
			}
			continue
		}
		select {
		case <-c.progress:
		case <-c.all.ctx.Done():
			return
		}
	}
}

// pressure says what to ask for along with an acknowledgement.
func (c *session) pressure(v intake.Verdict) fleet.Pressure {
	switch {
	case v == intake.StoredLow:
		return fleet.Pressure_PRESSURE_DISK_LOW
	case c.all.cfg.Intake.Busy():
		return fleet.Pressure_PRESSURE_SLOW_DOWN
	}
	return fleet.Pressure_PRESSURE_UNSPECIFIED
}

func refusal(p *pending, v intake.Verdict) *fleet.StreamResponse {
	r := &fleet.Refused{First: p.first, Next: p.next}
	switch v {
	case gap:
		r.Reason, r.Text = fleet.Refusal_REFUSAL_GAP, p.err.Error()
	case intake.Full:
		r.Reason, r.Text = fleet.Refusal_REFUSAL_DISK_FULL, "the collector's disk is full"
	case intake.Suspended:
		r.Reason, r.Text = fleet.Refusal_REFUSAL_SUSPENDED, "storing is suspended at the collector"
	default:
		r.Reason, r.Text = fleet.Refusal_REFUSAL_DISK_ERROR, "the collector cannot store: "+p.err.Error()
	}
	return &fleet.StreamResponse{Message: &fleet.StreamResponse_Refused{Refused: r}}
}

// send sends an answer. A peer that takes none for WriteTimeout is cut off.
func (c *session) send(m *fleet.StreamResponse) error {
	limit := time.AfterFunc(c.all.cfg.Limits.WriteTimeout, func() { c.conn.cut(metrics.ClosedSlow) })
	defer limit.Stop()
	if err := c.stream.Send(m); err != nil {
		return status.Error(codes.Unavailable, err.Error())
	}
	return nil
}
