package query

import (
	"bytes"
	"cmp"
	"errors"

	"github.com/auditfleet/auditfleet/pkg/event"
)

// Key is the sort key of events in a collector's store.
type Key struct {
	Ms     int64
	Node   string
	Serial uint64
}

// Compare orders keys by time, then node, then serial. It returns -1, 0 or 1.
func (k Key) Compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Ms, o.Ms), cmp.Compare(k.Node, o.Node), cmp.Compare(k.Serial, o.Serial))
}

// KeyOf returns the key of an event.
func KeyOf(ev *event.Event) Key { return Key{ev.Ms, string(ev.Node), ev.Serial} }

// Cursor is the position of an event in the answer to a query. The next page begins after
// it; its query is the same but for After and Limit.
//
// Pages neither lose nor repeat an event. This holds for events with equal keys, and
// while events arrive between two pages: an event stays in its batch, and a new event
// with the same key is placed after the existing ones. There are two exceptions. After a
// crash of the collector, an event that was only in memory may get into a later batch.
// And backwards, where more than 4096 events are equal in key and batch, each such event
// that arrives between two pages causes one event to be repeated.
type Cursor struct {
	Key
	Batch uint64
	// Tie is the event's number among the events of the answer that are equal in key and
	// batch, counted from 0 at the oldest. Backwards, when more of them exist than the
	// Pager holds, it counts from -1 at the newest.
	Tie int64
}

// CursorOf returns the cursor of an event that a Scan with q.Batches returned.
func CursorOf(ev *event.Event) Cursor { return Cursor{KeyOf(ev), ev.Batch, ev.Tie} }

// maxTies is the largest number of events equal in key and batch that a Pager holds in
// order to count them.
const maxTies = 4096

// Pager filters an ordered scan of a collector's events. It passes on the events after
// q.After, at most q.Limit of them, and sets the Tie of each. The scan must call Event
// for each event in order and Done at its end, from one goroutine.
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

// Paged returns a Pager for q that passes events to fn, and the query to scan for. That
// query's time bounds exclude events before the page.
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

// Event processes the next event of the scan.
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

// Done ends the scan: it passes on the events that are still held.
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
