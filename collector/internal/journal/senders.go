package journal

import (
	"bytes"
	"errors"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
)

// Resend detection. A sender that did not see our ACK sends the record again
// over its next connection, and the record must be stored once. A drop that is
// wrong loses a record, which is worse than a record stored twice: so nothing
// is dropped on its number alone, its bytes must be those stored before.
//
// Our own forwarders number their stream, and the same record keeps its number
// (top bit set): a record is a resend when that number was stored lately from
// that address with the same hash. A stock sender counts each attempt, so its
// numbers say nothing; it has one record in flight, so only the first record
// of a connection can be a resend, namely of the last record of an earlier
// connection from that address. Identical records elsewhere are all kept.
//
// Behind one address there may be any number of senders, of one name or of many:
// what is remembered is found by its content (number and hash, of bytes that say
// the name), and a numbering is gone on with only under its name. Memory bounds
// all together, see senders_memory.go.
const (
	// OwnNumbering is the bit that tells a forwarder's stable numbering.
	OwnNumbering = 1 << 31
	seqMask      = OwnNumbering - 1

	// Window is how many of a stream's last records are remembered, and so the
	// most a forwarder may have in flight for its resends to be recognised.
	Window    = chunkLen * numChunks
	chunkLen  = 256
	numChunks = 32

	// maxName is the most of a name that is kept.
	maxName = 255
)

// KV is a piece of resend detection's state. A nil value deletes the key.
type KV struct{ Key, Value []byte }

// Kinds of keys: address (16 bytes), kind, and for streams their id (4 bytes,
// big-endian), for hashes also the chunk; for a tail its hash (8 bytes, big-endian).
// Where a name was verified, the address is zero and kindName and the name (its length
// as a uvarint, its bytes) stand between it and the kind.
const (
	kindStream = 'o'
	kindHashes = 'r'
	kindTails  = 's' // all of an address, up to eight: not written any more
	kindTail   = 't'
	kindName   = 'n'
)

// ErrSenders is returned for stored state that cannot be read.
var ErrSenders = errors.New("malformed resend state")

type chunk [chunkLen]uint32

// stream is one numbering of our own. hashes[seq%Window] belongs to seq for the
// Window numbers up to last; 0 is unknown.
type stream struct {
	id    uint32
	last  uint32
	name  string // node= of its first record
	used  uint64
	ring  [numChunks]*chunk
	dirty uint64   // a bit a chunk; bit numChunks: the head
	where []uint32 // the chunks of numbers that sender.index has it under
	conns []uint64 // what sender.routes has it for
	of    *sender
}

// sender is what is known of one: of a name that was verified, or of an address.
type sender struct {
	id      identity
	used    uint64
	bytes   int // of memory
	nextID  uint32
	streams map[*stream]struct{}
	index   map[uint32][]*stream // by a number's chunk: those that may know numbers of it
	routes  map[uint64]*stream   // by connection
	tails   tails
	dirty   bool // is in senders.dirty
	gone    []uint32
	all     *senders
	byID    map[uint32]*stream // while loading
}

type senders struct {
	max       int
	most      int    // bytes of memory
	bytes     int    // of memory that all take
	forgotten uint64 // streams and tails that were dropped for want of memory
	clock     uint64 // counts uses
	began     time.Time
	all       map[identity]*sender
	dirty     []*sender
	gone      []KV // deletions of forgotten senders
}

func newSenders(maxSenders int) *senders {
	return &senders{max: max(maxSenders, 1), most: ResendMemory, all: map[identity]*sender{}}
}

func hash32(raw []byte) uint32 {
	h := uint32(xxhash.Sum64(raw))
	if h == 0 {
		return 1
	}
	return h
}

// get finds or makes the sender, and makes room for it.
func (s *senders) get(id identity) *sender {
	x := s.all[id]
	if x == nil {
		if len(s.all) >= s.max {
			s.evict()
		}
		x = &sender{id: id, all: s, streams: map[*stream]struct{}{}, index: map[uint32][]*stream{}, routes: map[uint64]*stream{}}
		x.tails.init()
		x.took(senderCost + len(id.name))
		s.all[id] = x
	}
	s.clock++
	x.used = s.clock
	return x
}

func (s *senders) touch(x *sender) {
	if !x.dirty {
		x.dirty = true
		s.dirty = append(s.dirty, x)
	}
}

// filter takes resends out of the batch and remembers what stays.
func (s *senders) filter(b *Batch) {
	if !b.Managed || len(b.Records) == 0 {
		return
	}
	x := s.get(b.Sender.identity())
	s.touch(x)
	if s.began.IsZero() {
		s.began = b.Received
	}
	keep := b.Records[:0]
	var st *stream
	for i := range b.Records {
		r := &b.Records[i]
		var resend bool
		if r.Seq&OwnNumbering != 0 {
			st, resend = x.own(s, st, b.Conn, r)
		} else {
			resend = x.stock(b, r, i == len(b.Records)-1 || b.Records[i+1].Seq&OwnNumbering != 0)
		}
		if resend {
			b.drop(r)
		} else {
			keep = append(keep, *r)
		}
	}
	b.Records = keep
	if st != nil {
		st.used = s.clock
	}
	s.shrink()
}

// drop counts a resend.
func (b *Batch) drop(r *Record) {
	node := nodeOf(r.Raw)
	for i := range b.Dropped {
		if b.Dropped[i].Node == string(node) {
			b.Dropped[i].Count++
			return
		}
	}
	b.Dropped = append(b.Dropped, Dropped{Node: string(node), Count: 1})
}

// nodeOf is the value of a leading node=.
func nodeOf(raw []byte) []byte {
	rest, ok := bytes.CutPrefix(raw, []byte("node="))
	if !ok {
		return nil
	}
	node, _, _ := bytes.Cut(rest, []byte(" "))
	return node
}

// observe remembers a committed batch: what filter did when it came in. Doing it
// twice is harmless, so state may be newer than the first batch replayed.
func (s *senders) observe(b *Batch) {
	if !b.Managed || len(b.Records) == 0 {
		return
	}
	x := s.get(b.Sender.identity())
	s.touch(x)
	var st *stream
	for i := range b.Records {
		r := &b.Records[i]
		if r.Seq&OwnNumbering != 0 {
			st, _ = x.own(s, st, b.Conn, r)
		} else {
			x.tails.set(x, b.Conn, xxhash.Sum64(r.Raw), b.Received)
		}
	}
	s.shrink()
}

// forget undoes filter for a batch that was not committed. The next record of a
// stock sender's connection then counts as its first again.
func (s *senders) forget(b *Batch) {
	if !b.Managed {
		return
	}
	x := s.get(b.Sender.identity())
	s.touch(x)
	x.tails.forget(x, b.Conn)
	undone := map[*stream]bool{}
	for i := range b.Records {
		r := &b.Records[i]
		if r.Seq&OwnNumbering == 0 {
			continue
		}
		h, seq := hash32(r.Raw), r.Seq&seqMask
		for _, st := range x.index[seq/chunkLen] {
			if st.at(seq) == h {
				st.put(seq, 0)
				undone[st] = true
			}
		}
	}
	for st := range undone {
		st.retreat()
	}
}

// forgetConnections says that no connection seen so far is of this process.
func (s *senders) forgetConnections() {
	for _, x := range s.all {
		for conn := range x.routes {
			x.unroute(conn)
		}
		x.tails.forgetConnections(x)
	}
}

// ---- our numbering ----

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

func (st *stream) put(seq, hash uint32) {
	i := seq % Window / chunkLen
	if st.ring[i] == nil {
		if hash == 0 {
			return
		}
		st.ring[i] = new(chunk)
		st.of.took(chunkCost)
	}
	if hash != 0 {
		st.enter(seq / chunkLen)
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

func (st *stream) clear() {
	for i := range st.ring {
		if st.ring[i] != nil {
			st.ring[i] = nil
			st.of.took(-chunkCost)
		}
	}
	st.leave(len(st.where))
}

// own finds the record's stream (st when it is the batch's so far) and says
// whether the record is a resend; if not, it is remembered.
func (x *sender) own(s *senders, st *stream, conn uint64, r *Record) (*stream, bool) {
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
	if st == nil || !st.takes(seq) {
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

// takes says whether a record that is no known resend can belong to the stream of
// its connection: a little ahead, or where nothing is known within the window.
func (st *stream) takes(seq uint32) bool {
	if ahead := (seq - st.last) & seqMask; ahead > 0 && ahead <= 1<<16 {
		return true
	}
	d, ok := st.behind(seq)
	return ok && d < Window && st.at(seq) == 0
}

func (x *sender) newStream(seq uint32, name string) *stream {
	x.nextID++
	return x.addStream(&stream{id: x.nextID, last: seq, name: name, dirty: 1 << numChunks})
}

func (x *sender) addStream(st *stream) *stream {
	st.of = x
	x.streams[st] = struct{}{}
	x.took(streamCost + len(st.name))
	return st
}

func (x *sender) drop(st *stream) {
	x.gone = append(x.gone, st.id)
	st.clear()
	for len(st.conns) > 0 {
		x.unroute(st.conns[0])
	}
	delete(x.streams, st)
	x.took(-streamCost - len(st.name))
}

// enter has the stream found for a chunk of numbers, and no longer for what lies
// behind its window.
func (st *stream) enter(chunk uint32) {
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
	x.took(indexCost)
	st.leave(len(st.where) - maxWhere)
}

// leave takes the stream out of the index for its first n chunks.
func (st *stream) leave(n int) {
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
	x.took(-n * indexCost)
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
	x.took(routeCost)
}

func (x *sender) unroute(conn uint64) {
	st := x.routes[conn]
	if st == nil {
		return
	}
	delete(x.routes, conn)
	st.conns = slices.DeleteFunc(st.conns, func(c uint64) bool { return c == conn })
	x.took(-routeCost)
}

// nameOf is a record's name, as far as it is kept.
func nameOf(raw []byte) []byte {
	node := nodeOf(raw)
	return node[:min(len(node), maxName)]
}

// stock says whether a stock sender's record is a resend; needed: it is the last of
// its batch, so its hash must be remembered.
func (x *sender) stock(b *Batch, r *Record, needed bool) bool {
	known := x.tails.of(b.Conn)
	if known && !needed {
		return false
	}
	h := xxhash.Sum64(r.Raw)
	resend := !known && x.tails.has(h)
	x.tails.set(x, b.Conn, h, b.Received)
	x.tails.prune(x, b.Received)
	return resend
}
