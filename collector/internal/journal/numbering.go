package journal

import "slices"

// stream is one numbering of a forwarder of ours. It remembers the hashes of the Window
// numbers up to last, in chunks that are made when there is something in them: the hash
// of number n is ring[n%Window/chunkLen][n%chunkLen], and 0 where it is not known. Numbers
// wrap around at OwnNumbering, so all arithmetic is modulo that.
//
// What must hold: a chunk has no hash of a number before the window, since advance clears
// those that it passes; and the sender's index has the stream under the chunk of every
// number whose hash is not 0, so that a resend is found whoever sends it.
type stream struct {
	id    uint32 // in the store's keys; unique for the sender
	last  uint32
	name  string // node= of its first record
	used  uint64 // senders.clock when it was last used
	ring  [numChunks]*chunk
	dirty uint64   // what the store is to be told: a bit a chunk; bit numChunks: last and name
	where []uint32 // the chunks of numbers that sender.index has it under, oldest first
	conns []uint64 // the connections that sender.routes has it for, oldest first
	of    *sender
}

type chunk [chunkLen]uint32

// behind is how far seq lies before or at last, in serial-number arithmetic.
func (st *stream) behind(seq uint32) (uint32, bool) {
	d := (st.last - seq) & seqMask
	return d, d < OwnNumbering/2
}

// at is the hash remembered for seq, 0 when none is.
func (st *stream) at(seq uint32) uint32 {
	if d, ok := st.behind(seq); !ok || d >= Window {
		return 0
	}
	c := st.ring[seq%Window/chunkLen]
	if c == nil {
		return 0
	}
	return c[seq%chunkLen]
}

// put remembers the hash of a number within the window; 0 forgets it.
func (st *stream) put(seq, hash uint32) {
	i := seq % Window / chunkLen
	if st.ring[i] == nil {
		if hash == 0 {
			return
		}
		st.ring[i] = new(chunk)
		st.of.account(chunkCost)
	}
	if hash != 0 {
		st.enterIndex(seq / chunkLen)
	}
	st.ring[i][seq%chunkLen] = hash
	st.dirty |= 1<<i | 1<<numChunks
}

// advance moves last forward to seq; the numbers between are unknown.
func (st *stream) advance(seq uint32) {
	if gap := (seq - st.last) & seqMask; gap >= Window {
		st.clear()
		st.dirty = 1<<(numChunks+1) - 1
	} else {
		for q := st.last + 1; gap > 1; gap-- {
			st.put(q&seqMask, 0)
			q++
		}
	}
	st.last = seq
}

// retreat moves last back to a number that is known, so that what was forgotten
// goes on there when it comes again.
func (st *stream) retreat() {
	for i := range uint32(Window) {
		if seq := (st.last - i) & seqMask; st.at(seq) != 0 {
			st.last = seq
			st.dirty |= 1 << numChunks
			return
		}
	}
}

// clear forgets all hashes.
func (st *stream) clear() {
	for i := range st.ring {
		if st.ring[i] != nil {
			st.ring[i] = nil
			st.of.account(-chunkCost)
		}
	}
	st.leaveIndex(len(st.where))
}

// filterNumbered finds the stream of a record with a number of ours (st when that is the
// batch's so far) and says whether the record is a resend; if not, it is remembered.
func (x *sender) filterNumbered(s *senders, st *stream, conn uint64, r *Record) (*stream, bool) {
	h, seq := hash32(r.Raw), r.Seq&seqMask
	if st == nil {
		st = x.routes[conn]
	}
	// The common case first: the stream's next number. With several streams, which
	// may have been taken for one another, another one may know it.
	if st != nil && len(x.streams) == 1 && seq == (st.last+1)&seqMask {
		st.advance(seq)
		st.put(seq, h)
		return st, false
	}
	for _, c := range x.index[seq/chunkLen] {
		if c.at(seq) == h {
			x.routeTo(s, conn, c)
			return c, true
		}
	}
	if st == nil || !st.accepts(seq) {
		// A stream of that name that goes on just here, or a new one: a wrong guess
		// would write over what is known of another sender.
		st = nil
		before, name := (seq-1)&seqMask, nameOf(r.Raw)
		for _, c := range x.index[before/chunkLen] {
			if c.last == before && c.name == string(name) && (st == nil || c.used > st.used) {
				st = c
			}
		}
		if st == nil {
			st = x.newStream(seq, string(name))
		}
		x.routeTo(s, conn, st)
	}
	if d, ok := st.behind(seq); !ok || d == 0 {
		st.advance(seq)
	}
	st.put(seq, h)
	return st, false
}

// accepts says whether a record that is no known resend can belong to the stream of
// its connection: a little ahead, or where nothing is known within the window.
func (st *stream) accepts(seq uint32) bool {
	if ahead := (seq - st.last) & seqMask; ahead > 0 && ahead <= 1<<16 {
		return true
	}
	d, ok := st.behind(seq)
	return ok && d < Window && st.at(seq) == 0
}

// newStream begins a stream at the record with a number.
func (x *sender) newStream(seq uint32, name string) *stream {
	x.nextID++
	return x.addStream(&stream{id: x.nextID, last: seq, name: name, dirty: 1 << numChunks})
}

func (x *sender) addStream(st *stream) *stream {
	st.of = x
	x.streams[st] = struct{}{}
	x.account(streamCost + len(st.name))
	return st
}

// drop forgets a stream, also in the store.
func (x *sender) drop(st *stream) {
	x.gone = append(x.gone, st.id)
	st.clear()
	for len(st.conns) > 0 {
		x.unroute(st.conns[0])
	}
	delete(x.streams, st)
	x.account(-streamCost - len(st.name))
}

// enterIndex has the stream found for a chunk of numbers, and no longer for what lies
// behind its window.
func (st *stream) enterIndex(chunk uint32) {
	x := st.of
	list := x.index[chunk]
	if n := len(st.where); n > 0 && st.where[n-1] == chunk || slices.Contains(list, st) {
		return
	}
	if len(list) >= maxAlike {
		x.drop(slices.MinFunc(list, func(a, b *stream) int { return int(int64(a.used) - int64(b.used)) }))
		x.all.forgotten++
	}
	x.index[chunk] = append(x.index[chunk], st)
	st.where = append(st.where, chunk)
	x.account(indexCost)
	st.leaveIndex(len(st.where) - maxWhere)
}

// leaveIndex removes the stream from the index for its first n chunks.
func (st *stream) leaveIndex(n int) {
	if n <= 0 {
		return
	}
	x := st.of
	for _, chunk := range st.where[:n] {
		list := x.index[chunk]
		if i := slices.Index(list, st); i >= 0 {
			list = slices.Delete(list, i, i+1)
		}
		if x.index[chunk] = list; len(list) == 0 {
			delete(x.index, chunk)
		}
	}
	st.where = append(st.where[:0], st.where[n:]...)
	x.account(-n * indexCost)
}

// routeTo says that a connection has a stream's records.
func (x *sender) routeTo(s *senders, conn uint64, st *stream) {
	s.clock++
	st.used = s.clock
	if x.routes[conn] == st {
		return
	}
	x.unroute(conn)
	if len(st.conns) >= maxConns { // the oldest is over
		x.unroute(st.conns[0])
	}
	x.routes[conn] = st
	st.conns = append(st.conns, conn)
	x.account(routeCost)
}

// unroute says that a connection is over, or has another stream's records.
func (x *sender) unroute(conn uint64) {
	st := x.routes[conn]
	if st == nil {
		return
	}
	delete(x.routes, conn)
	st.conns = slices.DeleteFunc(st.conns, func(c uint64) bool { return c == conn })
	x.account(-routeCost)
}
