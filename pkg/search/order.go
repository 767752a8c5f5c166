package search

import (
	"container/heap"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// order puts the records of a finished log together into events, and the events
// into the order in which ausearch prints them: the oldest first, once it is
// complete. An event stays open until a record that starts another one is
// timeout seconds younger; one whose first record is single by its type is
// complete at once, yet waits for older ones. It differs from event.Assembler,
// which must not wait.
type order struct {
	timeout int64 // seconds
	emit    func(*event.Event) error

	open     map[orderKey]*pending // building, by what its records share
	building pendingHeap           // building, by seconds
	waiting  pendingHeap           // all, by time and serial
	last     *pending              // what the last record went to, while building
	slots    intHeap               // free places below used; see pending.slot
	used     int
	bytes    int
	maxBytes int
	free     []*pending
}

type orderKey struct {
	node   string
	hasN   bool
	ms     int64
	serial uint64
}

type pending struct {
	ev       event.Event
	key      orderKey
	sec      int64
	bytes    int
	complete bool
	// slot is the event's place in the stock tool's array, the first that was
	// free: of two with the same time and serial the lower place is older.
	slot int
}

// pendingHeap is a heap by less.
type pendingHeap struct {
	all  []*pending
	less func(a, b *pending) bool
}

func (h *pendingHeap) Len() int           { return len(h.all) }
func (h *pendingHeap) Less(i, j int) bool { return h.less(h.all[i], h.all[j]) }
func (h *pendingHeap) Swap(i, j int)      { h.all[i], h.all[j] = h.all[j], h.all[i] }
func (h *pendingHeap) Push(x any)         { h.all = append(h.all, x.(*pending)) }
func (h *pendingHeap) Pop() any {
	n := len(h.all) - 1
	x := h.all[n]
	h.all[n] = nil
	h.all = h.all[:n]
	return x
}

type intHeap []int

func (h *intHeap) Len() int           { return len(*h) }
func (h *intHeap) Less(i, j int) bool { return (*h)[i] < (*h)[j] }
func (h *intHeap) Swap(i, j int)      { (*h)[i], (*h)[j] = (*h)[j], (*h)[i] }
func (h *intHeap) Push(x any)         { *h = append(*h, x.(int)) }
func (h *intHeap) Pop() any {
	n := len(*h) - 1
	x := (*h)[n]
	*h = (*h)[:n]
	return x
}

// newOrder returns an order that hands events to emit, which may use them until
// it returns. When more than maxBytes of records wait, the oldest event goes out
// as it is.
func newOrder(timeoutSec int64, maxBytes int, emit func(*event.Event) error) *order {
	o := &order{timeout: timeoutSec, maxBytes: maxBytes, emit: emit, open: map[orderKey]*pending{}}
	o.building.less = func(a, b *pending) bool { return a.sec < b.sec }
	o.waiting.less = func(a, b *pending) bool {
		if a.ev.Ms != b.ev.Ms {
			return a.ev.Ms < b.ev.Ms
		}
		if a.ev.Serial != b.ev.Serial {
			return a.ev.Serial < b.ev.Serial
		}
		return a.slot < b.slot
	}
	return o
}

// add takes a record; its bytes are kept until its event is emitted.
func (o *order) add(r *record.Record) error {
	ms := r.Ms()
	p := o.last
	if p == nil || p.ev.Serial != r.Serial || p.ev.Ms != ms || p.key.hasN != (r.Node != nil) || p.key.node != string(r.Node) {
		p = o.open[orderKey{string(r.Node), r.Node != nil, ms, r.Serial}]
		if p == nil && r.Type == tables.EOE {
			return nil // its event is out already
		}
	}
	if p != nil {
		o.append(p, r)
	} else {
		o.start(r)
	}
	return o.drain()
}

func (o *order) append(p *pending, r *record.Record) {
	p.ev.Records = append(p.ev.Records, *r)
	p.bytes += len(r.Raw)
	o.bytes += len(r.Raw)
	o.last = p
}

func (o *order) start(r *record.Record) {
	p := o.take()
	p.key = orderKey{string(r.Node), r.Node != nil, r.Ms(), r.Serial}
	p.sec = r.Sec
	p.ev.Node, p.ev.Ms, p.ev.Serial = r.Node, r.Ms(), r.Serial
	if len(o.slots) > 0 {
		p.slot = heap.Pop(&o.slots).(int)
	} else {
		p.slot = o.used
		o.used++
	}
	o.append(p, r)
	heap.Push(&o.waiting, p)
	for len(o.building.all) > 0 && o.building.all[0].sec+o.timeout <= r.Sec {
		o.done(heap.Pop(&o.building).(*pending))
	}
	if startsSingle(r.Type) {
		p.complete, o.last = true, nil
		return
	}
	o.open[p.key] = p
	heap.Push(&o.building, p)
}

// startsSingle says whether an event whose first record has that type is taken
// to have no other.
func startsSingle(t uint16) bool {
	return t < tables.FirstEvent || t >= tables.FirstUserAnom || t == tables.Proctitle || t == tables.Kernel ||
		t >= tables.MACUnlblAllow && t <= tables.MACCalipsoDel
}

func (o *order) done(p *pending) {
	p.complete = true
	delete(o.open, p.key)
	if o.last == p {
		o.last = nil
	}
}

// drain emits what nothing older holds up.
func (o *order) drain() error {
	for len(o.waiting.all) > 0 && (o.waiting.all[0].complete || o.bytes > o.maxBytes) {
		p := heap.Pop(&o.waiting).(*pending)
		if !p.complete {
			o.done(p)
			o.forget(p)
		}
		if err := o.out(p); err != nil {
			return err
		}
	}
	return nil
}

// forget takes an event that goes out early from those building.
func (o *order) forget(p *pending) {
	for i, b := range o.building.all {
		if b == p {
			heap.Remove(&o.building, i)
			return
		}
	}
}

func (o *order) out(p *pending) error {
	heap.Push(&o.slots, p.slot)
	o.bytes -= p.bytes
	err := o.emit(&p.ev)
	clear(p.ev.Records)
	*p = pending{ev: event.Event{Records: p.ev.Records[:0]}}
	if len(o.free) < 1024 {
		o.free = append(o.free, p)
	}
	return err
}

func (o *order) take() *pending {
	if n := len(o.free); n > 0 {
		p := o.free[n-1]
		o.free = o.free[:n-1]
		return p
	}
	return &pending{}
}

// flush completes and emits all that is left.
func (o *order) flush() error {
	for _, p := range o.building.all {
		p.complete = true
	}
	clear(o.open)
	o.building.all, o.last = nil, nil
	return o.drain()
}
