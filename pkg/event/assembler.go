package event

import (
	"bytes"
	"container/heap"
	"hash/maphash"
	"slices"
	"time"

	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// An Assembler groups records into events. One goroutine may use it; nothing in it is
// locked.
//
// An event is complete with its EOE or PROCTITLE record, or at once if IsSingle says so.
// A complete event is emitted immediately, even if older events are open. An event that
// does not become complete is emitted when it is late (Config.Timeout, MaxAge) or when
// the limits are exceeded. It is late when a record of its node is Timeout younger than the
// event, and than all that the node had sent by then, up to the record that came next after
// the event's last one: an event that comes with an old time, since its system call took
// long, is not late at once. Records that arrive for an event after that form another event
// with the same time and serial.
type Assembler struct {
	cfg       Config
	timeoutMs int64
	emit      func(*Event)
	stats     Stats
	records   uint64 // added so far

	open  map[key]*openEvent
	count int // of open events
	bytes int // of memory that they take
	peak  int // the greatest count since the maps were made

	lru openEvent // sentinel of the ring of open events by last record, the least recent first

	nodes    map[uint64]*node // by hash of name, chained by node.next; those with open events, and those in known
	seed     maphash.Seed
	last     *openEvent // that got the last record, while it is open
	lastNode *node      // of the last record, while it is in nodes

	known     [knownNodes]*node // stay in nodes without open events, too: for their clocks, and since most have another event soon
	nextKnown int               // which of them is given up next

	freeEvents           *openEvent // unused ones, chained by next
	freeNodes            *node      // likewise
	spareEvents, spareNs int        // how many unused ones there are
}

// key identifies an open event.
type key struct {
	node   *node
	ms     int64
	serial uint64
}

// openEvent is an event that may get further records. It is in three places at once: the map
// open, the ring lru and its node's heap; start puts it into all of them, finish takes it out.
type openEvent struct {
	key
	ev         *Event
	bytes      int        // of memory, as counted in Assembler.bytes
	seq        uint64     // order of arrival
	due        int64      // a record of this time shows the event to be late; never earlier than before
	heapIndex  int        // in its node's heap
	opened     time.Time  // wall clock of its first record
	touched    time.Time  // wall clock of its last record
	prev, next *openEvent // in lru
}

// A node is the stream of records of one host. The times of its own records decide when
// its events are late, so a host with a wrong clock does not affect others.
type node struct {
	hash uint64
	name []byte    // nil without node=; else in room, so that no record's buffer is kept for it
	room []byte    // for name; kept when the node is used again for another name
	next *node     // of the same hash, or unused
	heap eventHeap // of its open events, by when they are late
	refs int       // how many of them

	place  int // in Assembler.known; -1 without one
	clock  hostClock
	latest *openEvent // that got the node's last record, if it is open
}

// NewAssembler returns an Assembler that passes each finished event to emit. emit owns
// the event from then on; it must not call the Assembler.
func NewAssembler(cfg Config, emit func(*Event)) *Assembler {
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.MaxEvents <= 0 {
		cfg.MaxEvents = defaultMaxEvents
	}
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = defaultMaxBytes
	}
	a := &Assembler{
		cfg:       cfg,
		timeoutMs: cfg.Timeout.Milliseconds(),
		emit:      emit,
		open:      make(map[key]*openEvent),
		nodes:     make(map[uint64]*node),
		seed:      maphash.MakeSeed(),
	}
	a.lru.prev, a.lru.next = &a.lru, &a.lru
	return a
}

// Add adds one record. The event keeps r's slices, so the caller must not change their
// bytes afterwards. OpenTags and Own identify the record by tag. now is the wall clock; a
// caller that uses neither Tick nor MaxAge may pass the zero time.
func (a *Assembler) Add(r *record.Record, tag uint64, now time.Time) {
	a.records++
	if r.Err != nil {
		a.emit(a.cfg.Pool.single(r, tag))
		return
	}
	ms := r.Ms()
	o := a.last
	if o == nil || o.serial != r.Serial || o.ms != ms || !sameNode(o.node.name, r.Node) || a.tooOld(o, now) {
		n := a.findNode(r.Node)
		if o = a.find(n, ms, r.Serial); o != nil && a.tooOld(o, now) {
			o = nil
		}
		if !a.cfg.Apart || r.Type < tables.DaemonStart || r.Type > tables.LastDaemon {
			if n == nil {
				n = a.newNode(r.Node)
			}
			a.pass(n, ms, o)
			a.expire(n, ms)
		}
		if o == nil {
			if IsSingle(r.Type) {
				a.emit(a.cfg.Pool.single(r, tag))
				return
			}
			o = a.start(n, r, ms)
			o.opened = now
		}
		a.last = o
	}
	a.append(o, r, tag)
	a.extend(o)
	o.touched, o.node.latest = now, o
	a.moveToBack(o)
	if isLast(r.Type) {
		a.finish(o)
		return
	}
	for a.count > 0 && (a.count > a.cfg.MaxEvents || a.bytes > a.cfg.MaxBytes) {
		if a.count > a.cfg.MaxEvents {
			a.stats.Evicted++
		} else {
			a.stats.Oversize++
		}
		a.finish(a.lru.next)
	}
}

// tooOld finishes an event that has been open for MaxAge, and reports whether it has.
func (a *Assembler) tooOld(o *openEvent, now time.Time) bool {
	if a.cfg.MaxAge <= 0 || now.Sub(o.opened) < a.cfg.MaxAge {
		return false
	}
	a.stats.Aged++
	a.finish(o)
	return true
}

// Tick emits the events that received no record for Timeout, by the wall clock. Call it
// about once a second: without further records from a host, nothing else ends the host's
// events.
func (a *Assembler) Tick(now time.Time) {
	for o := a.lru.next; o != &a.lru && now.Sub(o.touched) >= a.cfg.Timeout; o = a.lru.next {
		a.finish(o)
	}
}

// Flush emits all open events, complete or not, ordered by time and serial.
func (a *Assembler) Flush() {
	all := make([]*openEvent, 0, a.count)
	for o := a.lru.next; o != &a.lru; o = o.next {
		all = append(all, o)
	}
	slices.SortFunc(all, func(x, y *openEvent) int {
		if x.before(y) {
			return -1
		}
		return 1
	})
	for _, o := range all {
		a.finish(o)
	}
}

// Stats returns the counts so far.
func (a *Assembler) Stats() Stats { return a.stats }

// Len returns the number of open events.
func (a *Assembler) Len() int { return a.count }

// OpenTags appends the tags of all records of open events to dst, in no
// particular order.
func (a *Assembler) OpenTags(dst []uint64) []uint64 {
	for o := a.lru.next; o != &a.lru; o = o.next {
		dst = append(dst, o.ev.tags...)
	}
	return dst
}

// Each calls fn with each open event, as far as it has come, in no particular order. The event
// stays the Assembler's: fn may keep the bytes of its records, if the caller of Add has called
// Own for them, and nothing else of it.
func (a *Assembler) Each(fn func(*Event)) {
	for o := a.lru.next; o != &a.lru; o = o.next {
		fn(o.ev)
	}
}

// sameNode reports whether two names of nodes are the same; nil (no node=) and an empty name
// are not.
func sameNode(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

// find returns the open event of that node, time and serial; nil when there is none.
func (a *Assembler) find(n *node, ms int64, serial uint64) *openEvent {
	if n == nil {
		return nil
	}
	return a.open[key{n, ms, serial}]
}

// findNode returns the node of that name, nil when it has no open event and is not known.
func (a *Assembler) findNode(name []byte) *node {
	if n := a.lastNode; n != nil && sameNode(n.name, name) {
		return n
	}
	if len(a.nodes) == 0 {
		return nil
	}
	for n := a.nodes[a.hash(name)]; n != nil; n = n.next {
		if sameNode(n.name, name) {
			a.lastNode = n
			return n
		}
	}
	return nil
}

func (a *Assembler) hash(name []byte) uint64 {
	if name == nil {
		return 0
	}
	return maphash.Bytes(a.seed, name)
}

// start opens the event to which r belongs, in node n (nil: it is not known). The
// caller appends r.
func (a *Assembler) start(n *node, r *record.Record, ms int64) *openEvent {
	if n == nil || n.refs == 0 && n.place < 0 { // expire may have closed n's last event
		n = a.newNode(r.Node)
	}
	if n.refs == 0 {
		a.bytes += nodeCost(n.name)
	}
	o := a.freeEvents
	if o != nil {
		a.freeEvents = o.next
		a.spareEvents--
	} else {
		o = &openEvent{}
	}
	*o = openEvent{key: key{n, ms, r.Serial}, ev: a.cfg.Pool.get(r), seq: a.records}
	o.due = ms + a.timeoutMs
	o.bytes = eventCost + spilled(o.ev)
	a.bytes += o.bytes
	n.refs++
	a.count++
	a.peak = max(a.peak, a.count)
	a.open[o.key] = o
	o.prev, o.next = a.lru.prev, &a.lru
	o.prev.next, a.lru.prev = o, o
	heap.Push(&n.heap, o)
	return o
}

// newNode makes the node of that name, whose bytes it copies.
func (a *Assembler) newNode(name []byte) *node {
	n := a.freeNodes
	if n != nil {
		a.freeNodes = n.next
		a.spareNs--
	} else {
		n = &node{}
	}
	if n.hash = a.hash(name); name != nil {
		if n.room == nil {
			n.room = make([]byte, 0, len(name)) // not nil, whatever the name
		}
		n.room = append(n.room[:0], name...)
		n.name = n.room
	}
	n.clock = hostClock{}
	n.next = a.nodes[n.hash]
	a.nodes[n.hash] = n
	a.know(n)
	a.lastNode = n
	return n
}

// know gives a node a place in known, that of the node which got one first.
func (a *Assembler) know(n *node) {
	if old := a.known[a.nextKnown]; old != nil {
		old.place = -1
		if old.refs == 0 {
			a.dropNode(old)
		}
	}
	a.known[a.nextKnown], n.place = n, a.nextKnown
	a.nextKnown = (a.nextKnown + 1) % knownNodes
}

// leaveNode ends the use of a node by its last open event.
func (a *Assembler) leaveNode(n *node) {
	a.bytes -= nodeCost(n.name)
	if cap(n.heap) > spareHeap {
		n.heap = nil
	}
	switch {
	case cap(n.room) > spareName:
		if n.place >= 0 {
			a.known[n.place], n.place = nil, -1
		}
		a.dropNode(n)
	case n.place < 0:
		a.know(n)
	}
}

// dropNode removes a node that has no open event and no place in known. It is kept for another name, unless
// enough are kept or its name was long.
func (a *Assembler) dropNode(n *node) {
	if first := a.nodes[n.hash]; first == n {
		if n.next == nil {
			delete(a.nodes, n.hash)
		} else {
			a.nodes[n.hash] = n.next
		}
	} else {
		for first.next != n {
			first = first.next
		}
		first.next = n.next
	}
	if a.lastNode == n {
		a.lastNode = nil
	}
	n.name, n.next = nil, nil
	if a.spareNs == spareNodes || cap(n.room) > spareName {
		return
	}
	a.spareNs++
	n.next, a.freeNodes = a.freeNodes, n
}

// moveToBack makes o the open event that got a record last.
func (a *Assembler) moveToBack(o *openEvent) {
	if a.lru.prev == o {
		return
	}
	o.prev.next, o.next.prev = o.next, o.prev
	o.prev, o.next = a.lru.prev, &a.lru
	o.prev.next, a.lru.prev = o, o
}

// expire emits the events of n that a record of time ms shows to be late. It goes by that
// record's time, not by the latest that was seen: otherwise, after a clock was set back, every
// event would be late at once. An event that came after that is not late before the clock has
// caught up, or is known to have been set back; Tick ends it.
func (a *Assembler) expire(n *node, ms int64) {
	if n == nil {
		return
	}
	for h := &n.heap; len(*h) > 0 && (*h)[0].due <= ms; {
		a.finish((*h)[0])
	}
}

// finish takes o out of all its places and emits its event. o may be used again at once, so
// the caller must not touch it afterwards.
func (a *Assembler) finish(o *openEvent) {
	delete(a.open, o.key)
	a.count--
	o.prev.next, o.next.prev = o.next, o.prev
	heap.Remove(&o.node.heap, o.heapIndex)
	a.bytes -= o.bytes
	if a.last == o {
		a.last = nil
	}
	if o.node.latest == o {
		o.node.latest = nil
	}
	if o.node.refs--; o.node.refs == 0 {
		a.leaveNode(o.node)
	}
	ev := o.ev
	*o = openEvent{}
	if a.spareEvents < spareEvents {
		o.next, a.freeEvents = a.freeEvents, o
		a.spareEvents++
	}
	if a.count == 0 && a.peak > maxIdle {
		// A map does not give back the memory that it once needed.
		a.open, a.nodes, a.peak = make(map[key]*openEvent), make(map[uint64]*node), 0
		for _, n := range a.known {
			if n != nil {
				n.next = a.nodes[n.hash]
				a.nodes[n.hash] = n
			}
		}
	}
	a.emit(ev)
}

// before orders events by time, then serial, then arrival.
func (o *openEvent) before(p *openEvent) bool {
	if o.ms != p.ms {
		return o.ms < p.ms
	}
	if o.serial != p.serial {
		return o.serial < p.serial
	}
	return o.seq < p.seq
}
