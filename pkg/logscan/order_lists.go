package logscan

import (
	"bytes"
	"hash/maphash"
	"math/bits"
)

// ---- open events by key ----

// openTable is a hash table of building events; the events of a bucket are chained
// through pending.chain.
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

// second is the list of the building events of one second, the latest first.
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

// seconds is a heap of all seconds that have building events. It has at most as many
// elements as the timeout has seconds, except for a log whose times jump.
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

// up and down keep heaps. container/heap would cost 4 % of a search of a log whose times
// go back again and again.
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

// waiting holds all events that have not been emitted. row holds those that arrived in
// order of time; late is a heap of those that were older than row's last element when
// they arrived. The oldest event is therefore the first of row or the top of late.
type waiting struct {
	row  []*pending
	at   int // row[:at] has been emitted
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

func (w *waiting) len() int { return len(w.row) - w.at + len(w.late) }

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

// slots allocates numbers: it always gives out the lowest number that is free.
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
