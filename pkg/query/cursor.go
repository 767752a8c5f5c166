package query

import (
	"bytes"
	"cmp"
	"errors"

	"github.com/auditfleet/auditfleet/pkg/event"
)

// Key is what a collector's store orders events by.
type Key struct {
	Ms     int64
	Node   string
	Serial uint64
}

// Compare orders keys by time, node and serial.
func (k Key) Compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Ms, o.Ms), cmp.Compare(k.Node, o.Node), cmp.Compare(k.Serial, o.Serial))
}

// KeyOf is an event's key.
func KeyOf(ev *event.Event) Key { return Key{ev.Ms, string(ev.Node), ev.Serial} }

// Cursor is the place of an event in the answer to a query: the next page begins
// behind it, with the same query but for After and Limit.
//
// Pages neither lose nor repeat an event, also of those equal in key, and also when
// events come in meanwhile: an event stays in its batch, and those that join its equals
// come behind them. Two cases are less exact. An event in memory may be of a later batch
// after a crash of the collector. And backwards, where more than 4096 events are equal
// in key and batch, those that join them between two pages cause as many to be repeated.
type Cursor struct {
	Key
	Batch uint64
	// Tie counts those of the answer that are equal in key and batch: from 0 for the
	// oldest, or, on the way backwards through more than are kept to be counted, from -1
	// for the newest.
	Tie int64
}

// CursorOf is the place of an event of a Scan with q.Batches.
func CursorOf(ev *event.Event) Cursor { return Cursor{KeyOf(ev), ev.Batch, ev.Tie} }

// maxTies is how many events equal in key and batch are held until it is known how
// many there are.
const maxTies = 4096

// Pager stands between a scan of a collector's events in order and its receiver: it
// hands on those behind q.After, q.Limit at most, each with its Tie.
type Pager struct {
	q       *Query
	fn      func(*event.Event) error
	stopped bool // by the limit or by fn

	// The events equal in key and batch that the scan is at.
	begun  bool
	ms     int64
	node   []byte
	serial uint64
	batch  uint64
	side   int   // of q.After: -1 before it, 0 equal to it, 1 behind it
	n      int64 // how many there were
	held   []*event.Event
	loose  bool // there are too many to be held
}

// Paged returns a Pager for a query, and the query to scan for, which does not begin
// before the page does.
func (q *Query) Paged(fn func(*event.Event) error) (*Pager, *Query) {
	p := &Pager{q: q, fn: q.Limited(fn)}
	scan := *q
	scan.After = nil
	switch at := q.After; {
	case at == nil || at.Ms <= 0:
	case !q.Reverse:
		scan.StartMs = max(q.StartMs, at.Ms)
	case q.EndMs == 0 || q.EndMs > at.Ms:
		scan.EndMs = at.Ms
	}
	return p, &scan
}

// Event takes the next event of the scan.
func (p *Pager) Event(ev *event.Event) error {
	if !p.begun || ev.Ms != p.ms || ev.Serial != p.serial || ev.Batch != p.batch || !bytes.Equal(ev.Node, p.node) {
		if err := p.flush(); err != nil {
			return err
		}
		p.begin(ev)
	}
	p.n++
	after := p.q.After
	switch {
	case p.side < 0:
		return nil
	case !p.q.Reverse:
		if p.side == 0 && p.n <= after.Tie+1 {
			return nil
		}
		return p.give(ev, p.n-1)
	case p.side == 0 && after.Tie >= 0: // the oldest ones are left
		if after.Tie == 0 {
			return nil
		}
		if int64(len(p.held)) == min(after.Tie, maxTies) {
			p.held = p.held[1:]
		}
		p.held = append(p.held, ev)
		return nil
	case p.side == 0 && p.n <= -after.Tie:
		return nil
	case p.side == 0 || p.loose:
		return p.give(ev, -p.n)
	}
	if p.held = append(p.held, ev); len(p.held) <= maxTies {
		return nil
	}
	p.loose = true
	for i, ev := range p.held {
		if err := p.give(ev, int64(-1-i)); err != nil {
			return err
		}
	}
	p.held = nil
	return nil
}

// begin is at the first event of a key and batch.
func (p *Pager) begin(ev *event.Event) {
	p.begun, p.loose, p.n, p.side = true, false, 0, 1
	p.ms, p.serial, p.batch, p.node = ev.Ms, ev.Serial, ev.Batch, append(p.node[:0], ev.Node...)
	if at := p.q.After; at != nil {
		p.side = cmp.Or(KeyOf(ev).Compare(at.Key), cmp.Compare(ev.Batch, at.Batch))
		if p.q.Reverse {
			p.side = -p.side
		}
	}
}

// Done ends the scan: it hands on what is held.
func (p *Pager) Done() error {
	if err := p.flush(); err != nil && !errors.Is(err, ErrStop) {
		return err
	}
	return nil
}

// flush hands on the events that were held until all of their key and batch were
// there, the newest first.
func (p *Pager) flush() error {
	held := p.held
	p.held = nil
	for i, ev := range held {
		if err := p.give(ev, int64(len(held)-1-i)); err != nil {
			return err
		}
	}
	return nil
}

func (p *Pager) give(ev *event.Event, tie int64) error {
	if p.stopped {
		return ErrStop
	}
	ev.Tie = tie
	err := p.fn(ev)
	p.stopped = err != nil
	return err
}
