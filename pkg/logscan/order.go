package logscan

import (
	"bytes"
	"slices"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// order groups the runs of a log into events and emits the events in the order in which
// ausearch prints them: the oldest first, as soon as it is complete. An event stays open
// until a record that starts another event is timeout seconds younger. An event whose
// first record is single by its type is complete at once, yet waits for older events. An
// event.Assembler instead serves records that are still arriving: it has parsed them, and
// it must not wait.
//
// One goroutine uses it. This is the only part of a scan that cannot run in parallel, so
// it reads no bytes except a node's name, and the cost of a run does not depend on the
// number of open events: in a log in order of time every step works at the end of a list.
type order struct {
	timeout int64 // seconds
	emit    func(*pending) error

	open     openTable // building, by what its records share
	building seconds   // building, by second
	waiting  waiting   // all, by time and serial
	last     *pending  // what the last run went to, while building
	slots    slots     // see pending.slot
	begun    uint64    // how many events were
	bytes    int
	maxBytes int
	pinned   int      // chunks with pieces of pending events
	free     *pending // by chain
}

// pending is an event that has not been emitted yet.
type pending struct {
	ms       int64
	serial   uint64
	node     []byte // in a piece
	hasNode  bool
	complete bool
	hits     hits
	hash     uint32
	slot     int32  // the event's place in the stock tool's array, the first that was free: of two with the same time and serial the lower place is older
	nth      uint64 // which of those that were begun
	bytes    int
	pieces   []piece

	chain      *pending // in openTable, or of order.free
	prev, next *pending // in its second's list, while building
	second     *second
}

func (p *pending) before(o *pending) bool {
	if p.ms != o.ms {
		return p.ms < o.ms
	}
	if p.serial != o.serial {
		return p.serial < o.serial
	}
	return p.slot < o.slot
}

// newOrder returns an order that hands events to emit, which may use them until
// it returns. When more than maxBytes of records wait, the oldest event goes out
// as it is.
func newOrder(timeoutSec int64, maxBytes int, emit func(*pending) error) *order {
	o := &order{timeout: timeoutSec, maxBytes: maxBytes, emit: emit}
	o.open.init()
	o.building.byTime = map[int64]*second{}
	return o
}

// add takes a run of a chunk, whose memory is held until its event is out.
func (o *order) add(c *chunk, r *run) error {
	node := c.data[r.node : r.node+r.nodeSize]
	p := o.last
	if p == nil || p.serial != r.serial || p.ms != r.ms || p.hasNode != r.hasNode || !bytes.Equal(p.node, node) {
		hash := o.open.hash(r, node)
		p = o.open.find(hash, r, node)
		switch {
		case p != nil:
		case r.typ == tables.EOE:
			return nil // its event is out already
		default:
			o.append(o.start(c, r, node, hash), c, r)
			return o.drain()
		}
	}
	o.append(p, c, r)
	o.last = p
	if o.bytes > o.maxBytes {
		return o.drain()
	}
	return nil
}

func (o *order) append(p *pending, c *chunk, r *run) {
	p.bytes += int(r.size)
	o.bytes += int(r.size)
	p.hits |= r.hits
	if n := len(p.pieces); n > 0 {
		if last := &p.pieces[n-1]; last.c == c && last.first+last.n == r.first {
			last.n += r.n
			return
		}
	}
	p.pieces = append(p.pieces, piece{c, r.first, r.n})
	o.hold(c)
}

func (o *order) hold(c *chunk) {
	if c.held++; c.held == 1 {
		o.pinned++
		c.retain()
	}
}

func (o *order) unhold(c *chunk) {
	if c.held--; c.held == 0 {
		o.pinned--
		c.release()
	}
}

func (o *order) start(c *chunk, r *run, node []byte, hash uint32) *pending {
	p := o.take()
	p.ms, p.serial, p.node, p.hasNode, p.hash = r.ms, r.serial, node, r.hasNode, hash
	p.slot = o.slots.take()
	o.begun++
	p.nth = o.begun
	o.waiting.push(p)
	sec := r.ms / 1000
	for s := o.building.oldest(); s != nil && s.sec+o.timeout <= sec; s = o.building.oldest() {
		for s.head != nil {
			o.done(s.head)
		}
		o.building.drop()
	}
	if startsSingle(r.typ) {
		p.complete, o.last = true, nil
		return p
	}
	o.open.put(p)
	o.building.put(p, sec)
	o.last = p
	return p
}

// startsSingle says whether an event whose first record has that type is taken
// to have no other.
func startsSingle(t uint16) bool { return t == 0 || t == tables.Proctitle || event.IsSingle(t) }

// done closes an event: what comes later is another one's.
func (o *order) done(p *pending) {
	p.complete = true
	o.open.remove(p)
	p.second.remove(p)
	if o.last == p {
		o.last = nil
	}
}

// drain emits what nothing older holds up.
func (o *order) drain() error {
	for {
		p := o.waiting.least()
		if p == nil || !p.complete && o.bytes <= o.maxBytes {
			return nil
		}
		o.waiting.pop()
		if !p.complete {
			o.done(p)
		}
		o.slots.give(p.slot)
		o.bytes -= p.bytes
		err := o.emit(p)
		o.letGo(p)
		if err != nil {
			return err
		}
	}
}

// letGo gives back the event and what it held.
func (o *order) letGo(p *pending) {
	for i := range p.pieces {
		o.unhold(p.pieces[i].c)
	}
	clear(p.pieces)
	*p = pending{pieces: p.pieces[:0], chain: o.free}
	o.free = p
}

func (o *order) take() *pending {
	p := o.free
	if p == nil {
		return &pending{pieces: make([]piece, 0, 2)}
	}
	o.free, p.chain = p.chain, nil
	return p
}

// unpin copies the events that still wait out of the chunks before seq: a few of
// them, of a wrong clock, say, must not keep a whole log in memory.
func (o *order) unpin(seq uint64) {
	o.waiting.each(func(p *pending) {
		if !slices.ContainsFunc(p.pieces, func(pc piece) bool { return pc.c.seq < seq }) {
			return
		}
		own := &chunk{seq: ^uint64(0), data: make([]byte, 0, p.bytes)}
		first := &p.pieces[0]
		at := bytes.Index(first.c.bytes(first.c.lines[first.first]), p.node) // while the chunk is held
		for _, pc := range p.pieces {
			for _, l := range pc.c.lines[pc.first : pc.first+pc.n] {
				own.lines = append(own.lines, line{uint32(len(own.data)), l.size})
				own.data = append(own.data, pc.c.bytes(l)...)
			}
			o.unhold(pc.c)
		}
		clear(p.pieces)
		p.pieces = append(p.pieces[:0], piece{own, 0, uint32(len(own.lines))})
		o.hold(own)
		o.pinned-- // it is no more than the event
		own.held++ // and never let go by count
		if p.hasNode {
			p.node = own.data[at : at+len(p.node)]
		}
	})
}

// flush completes and emits all that is left.
func (o *order) flush() error {
	for s := o.building.oldest(); s != nil; s = o.building.oldest() {
		for s.head != nil {
			o.done(s.head)
		}
		o.building.drop()
	}
	return o.drain()
}
