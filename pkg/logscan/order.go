package logscan

import (
	"bytes"
	"hash/maphash"
	"math/bits"
	"slices"

	"github.com/auditfleet/auditfleet/pkg/tables"
)

// order puts the runs of a log together into events, and the events into the
// order in which ausearch prints them: the oldest first, once it is complete. An
// event stays open until a record that starts another one is timeout seconds
// younger; one whose first record is single by its type is complete at once, yet
// waits for older ones. It differs from event.Assembler, which must not wait.
//
// It is for one goroutine, the only part of a scan that cannot be shared out, so
// it looks at no bytes but a node's name, and costs the same however many events
// are open: in a log in order of time each step is at the end of a list.
type order struct {
	timeout int64 // seconds
	emit    func(*pending) error

	open     openTable // building, by what its records share
	building seconds   // building, by second
	waiting  waiting   // all, by time and serial
	last     *pending  // what the last run went to, while building
	slots    slots     // see pending.slot
	bytes    int
	maxBytes int
	pinned   int      // chunks with pieces of pending events
	free     *pending // by chain
}

// pending is an event that is not out yet.
type pending struct {
	ms       int64
	serial   uint64
	node     []byte // in a piece
	hasNode  bool
	complete bool
	hits     hits
	hash     uint32
	slot     int32 // the event's place in the stock tool's array, the first that was free: of two with the same time and serial the lower place is older
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
func startsSingle(t uint16) bool {
	return t < tables.FirstEvent || t >= tables.FirstUserAnom || t == tables.Proctitle || t == tables.Kernel ||
		t >= tables.MACUnlblAllow && t <= tables.MACCalipsoDel
}

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
			p.node = own.data[len(nodeIs) : len(nodeIs)+len(p.node)]
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

// ---- open events by key ----

// openTable is a hash table that chains the events themselves.
type openTable struct {
	seed    maphash.Seed
	buckets []*pending // a power of two
	n       int
	node    []byte // the last node hashed, a copy, and its hash
	nodeSum uint64
}

func (t *openTable) init() {
	t.seed = maphash.MakeSeed()
	t.buckets = make([]*pending, 1024)
	t.nodeSum = maphash.Bytes(t.seed, nil)
}

func (t *openTable) hash(r *run, node []byte) uint32 {
	if !bytes.Equal(node, t.node) {
		t.node = append(t.node[:0], node...)
		t.nodeSum = maphash.Bytes(t.seed, node)
	}
	hi, lo := bits.Mul64(uint64(r.ms)^t.nodeSum, r.serial*0x9e3779b97f4a7c15|1)
	return uint32((hi ^ lo) >> 16)
}

func (t *openTable) find(hash uint32, r *run, node []byte) *pending {
	for p := t.buckets[hash&uint32(len(t.buckets)-1)]; p != nil; p = p.chain {
		if p.hash == hash && p.serial == r.serial && p.ms == r.ms && p.hasNode == r.hasNode && bytes.Equal(p.node, node) {
			return p
		}
	}
	return nil
}

func (t *openTable) put(p *pending) {
	if t.n++; t.n > len(t.buckets) {
		t.grow()
	}
	b := &t.buckets[p.hash&uint32(len(t.buckets)-1)]
	p.chain, *b = *b, p
}

func (t *openTable) grow() {
	old := t.buckets
	t.buckets = make([]*pending, 2*len(old))
	for _, p := range old {
		for p != nil {
			next := p.chain
			b := &t.buckets[p.hash&uint32(len(t.buckets)-1)]
			p.chain, *b = *b, p
			p = next
		}
	}
}

func (t *openTable) remove(p *pending) {
	for at := &t.buckets[p.hash&uint32(len(t.buckets)-1)]; *at != nil; at = &(*at).chain {
		if *at == p {
			*at, p.chain = p.chain, nil
			t.n--
			return
		}
	}
}

// ---- building events by second ----

// second is the events of one second that are building, the latest first.
type second struct {
	sec  int64
	head *pending
}

func (s *second) remove(p *pending) {
	if p.prev != nil {
		p.prev.next = p.next
	} else {
		s.head = p.next
	}
	if p.next != nil {
		p.next.prev = p.prev
	}
	p.prev, p.next, p.second = nil, nil, nil
}

// seconds are those with events, in a heap: there are as many as the timeout, but
// for a log whose times jump about.
type seconds struct {
	heap   []*second
	byTime map[int64]*second
	last   *second
	free   []*second
}

func (h *seconds) put(p *pending, sec int64) {
	s := h.last
	if s == nil || s.sec != sec {
		if s = h.byTime[sec]; s == nil {
			s = h.push(sec)
		}
		h.last = s
	}
	p.second, p.next = s, s.head
	if s.head != nil {
		s.head.prev = p
	}
	s.head = p
}

func (h *seconds) oldest() *second {
	if len(h.heap) == 0 {
		return nil
	}
	return h.heap[0]
}

func (h *seconds) push(sec int64) *second {
	s := &second{}
	if n := len(h.free); n > 0 {
		s, h.free = h.free[n-1], h.free[:n-1]
	}
	s.sec = sec
	h.byTime[sec] = s
	h.heap = append(h.heap, s)
	up(h.heap, len(h.heap)-1, func(a, b *second) bool { return a.sec < b.sec })
	return s
}

// drop takes the oldest away, which has no events any more.
func (h *seconds) drop() {
	s := h.heap[0]
	n := len(h.heap) - 1
	h.heap[0], h.heap[n] = h.heap[n], nil
	h.heap = h.heap[:n]
	down(h.heap, 0, func(a, b *second) bool { return a.sec < b.sec })
	delete(h.byTime, s.sec)
	if h.last == s {
		h.last = nil
	}
	if len(h.free) < 16 {
		h.free = append(h.free, s)
	}
}

func up[T any](h []T, i int, less func(a, b T) bool) {
	for i > 0 {
		parent := (i - 1) / 2
		if !less(h[i], h[parent]) {
			return
		}
		h[i], h[parent] = h[parent], h[i]
		i = parent
	}
}

func down[T any](h []T, i int, less func(a, b T) bool) {
	for {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if child+1 < len(h) && less(h[child+1], h[child]) {
			child++
		}
		if !less(h[child], h[i]) {
			return
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}

// ---- all events by time ----

// waiting is all events that are not out: a row of those that came in order, and
// a heap of those that were older than the row's last when they came.
type waiting struct {
	row  []*pending
	at   int // row[:at] is out
	late []*pending
}

func (w *waiting) push(p *pending) {
	if n := len(w.row); n == w.at || !p.before(w.row[n-1]) {
		if n == cap(w.row) && w.at > n/2 {
			k := copy(w.row, w.row[w.at:])
			clear(w.row[k:])
			w.row, w.at = w.row[:k], 0
		}
		w.row = append(w.row, p)
		return
	}
	w.late = append(w.late, p)
	up(w.late, len(w.late)-1, (*pending).before)
}

func (w *waiting) least() *pending {
	switch {
	case w.at == len(w.row) && len(w.late) == 0:
		return nil
	case w.at == len(w.row) || len(w.late) > 0 && w.late[0].before(w.row[w.at]):
		return w.late[0]
	}
	return w.row[w.at]
}

func (w *waiting) pop() {
	if w.at < len(w.row) && (len(w.late) == 0 || w.row[w.at].before(w.late[0])) {
		w.row[w.at] = nil
		if w.at++; w.at == len(w.row) {
			w.row, w.at = w.row[:0], 0
		}
		return
	}
	n := len(w.late) - 1
	w.late[0], w.late[n] = w.late[n], nil
	w.late = w.late[:n]
	down(w.late, 0, (*pending).before)
}

// each calls fn with every event.
func (w *waiting) each(fn func(*pending)) {
	for _, p := range w.row[w.at:] {
		fn(p)
	}
	for _, p := range w.late {
		fn(p)
	}
}

// ---- places ----

// slots gives out the lowest free place.
type slots struct {
	used []uint64 // bits
	low  int      // no word before it has a free place
}

func (s *slots) take() int32 {
	for ; s.low < len(s.used); s.low++ {
		if w := s.used[s.low]; w != ^uint64(0) {
			i := bits.TrailingZeros64(^w)
			s.used[s.low] |= 1 << i
			return int32(s.low*64 + i)
		}
	}
	s.used = append(s.used, 1)
	return int32(s.low * 64)
}

func (s *slots) give(slot int32) {
	w := int(slot / 64)
	s.used[w] &^= 1 << (slot % 64)
	s.low = min(s.low, w)
}
