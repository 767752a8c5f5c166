package journal

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"

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
const (
	// OwnNumbering is the bit that tells a forwarder's stable numbering.
	OwnNumbering = 1 << 31
	seqMask      = OwnNumbering - 1

	// Window is how many of a stream's last records are remembered, and so the
	// most a forwarder may have in flight for its resends to be recognised.
	Window    = chunkLen * numChunks
	chunkLen  = 256
	numChunks = 32

	maxStreams = 64 // of our numbering, an address: senders behind one NAT
	maxTails   = 8  // connections of stock senders, an address
	maxRoutes  = 2 * maxStreams

	// maxChunks bounds the memory of all hashes together to 128 MiB.
	maxChunks = 128 << 20 / (4 * chunkLen)
)

// KV is a piece of resend detection's state. A nil value deletes the key.
type KV struct{ Key, Value []byte }

// Kinds of keys: address (16 bytes), kind, and for streams their id (4 bytes,
// big-endian), for hashes also the chunk.
const (
	kindStream = 'o'
	kindHashes = 'r'
	kindTails  = 's'
)

// ErrSenders is returned for stored state that cannot be read.
var ErrSenders = errors.New("malformed resend state")

type chunk [chunkLen]uint32

// stream is one numbering of our own. hashes[seq%Window] belongs to seq for the
// Window numbers up to last; 0 is unknown.
type stream struct {
	id    uint32
	last  uint32
	used  uint64
	ring  [numChunks]*chunk
	dirty uint64 // a bit a chunk; bit numChunks: the head
	total *int   // chunks of all streams
}

// tail is the last record of a stock sender's connection.
type tail struct {
	conn uint64
	live bool // conn is one of this process
	hash uint64
	used uint64
}

type route struct {
	conn   uint64
	stream *stream
}

// sender is one address.
type sender struct {
	addr    netip.Addr
	used    uint64
	nextID  uint32
	streams []*stream
	tails   []tail
	routes  []route // connection → stream, newest last
	dirty   bool    // is in senders.dirty
	tailsCh bool    // tails changed
	gone    []uint32
}

type senders struct {
	max   int
	clock uint64 // counts uses
	all   map[netip.Addr]*sender
	dirty []*sender
	gone  []KV // deletions of forgotten senders
	// chunks counts those of all streams; a field of its own so that streams may
	// point at it.
	chunks *int
}

func newSenders(maxSenders int) *senders {
	return &senders{max: max(maxSenders, 1), all: map[netip.Addr]*sender{}, chunks: new(int)}
}

func hash32(raw []byte) uint32 {
	h := uint32(xxhash.Sum64(raw))
	if h == 0 {
		return 1
	}
	return h
}

// get finds or makes the sender, and makes room for it.
func (s *senders) get(ap netip.AddrPort) *sender {
	addr := ap.Addr().Unmap().WithZone("")
	x := s.all[addr]
	if x == nil {
		if len(s.all) >= s.max {
			s.evict()
		}
		x = &sender{addr: addr}
		s.all[addr] = x
	}
	s.clock++
	x.used = s.clock
	return x
}

// evict forgets the longest unused of some senders: the order of a map is
// random, so this is close to the longest unused of all.
func (s *senders) evict() {
	var old *sender
	n := 0
	for _, x := range s.all {
		if old == nil || x.used < old.used {
			old = x
		}
		if n++; n == 64 {
			break
		}
	}
	if old == nil {
		return
	}
	for len(old.streams) > 0 {
		old.drop(old.streams[0])
	}
	old.tails, old.tailsCh = nil, true
	s.gone = append(s.gone, old.changes(nil)...)
	s.dirty = slices.DeleteFunc(s.dirty, func(x *sender) bool { return x == old })
	delete(s.all, old.addr)
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
	x := s.get(b.Peer)
	s.touch(x)
	keep := b.Records[:0]
	var st *stream
	for i := range b.Records {
		r := &b.Records[i]
		var resend bool
		if r.Seq&OwnNumbering != 0 {
			st, resend = x.own(s, st, b.Conn, r)
		} else {
			resend = x.stock(s, b.Conn, r, i == len(b.Records)-1 || b.Records[i+1].Seq&OwnNumbering != 0)
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
	for *s.chunks > maxChunks && len(s.all) > 1 {
		s.evict()
	}
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
	x := s.get(b.Peer)
	s.touch(x)
	var st *stream
	for i := range b.Records {
		r := &b.Records[i]
		if r.Seq&OwnNumbering != 0 {
			st, _ = x.own(s, st, b.Conn, r)
		} else {
			x.setTail(s, b.Conn, xxhash.Sum64(r.Raw))
		}
	}
}

// forget undoes filter for a batch that was not committed. The next record of a
// stock sender's connection then counts as its first again.
func (s *senders) forget(b *Batch) {
	if !b.Managed {
		return
	}
	x := s.get(b.Peer)
	x.tails = slices.DeleteFunc(x.tails, func(t tail) bool { return t.live && t.conn == b.Conn })
	for i := range b.Records {
		r := &b.Records[i]
		if r.Seq&OwnNumbering == 0 {
			continue
		}
		h, seq := hash32(r.Raw), r.Seq&seqMask
		for _, st := range x.streams {
			if st.at(seq) == h {
				st.put(seq, 0)
			}
		}
	}
	for _, st := range x.streams {
		st.retreat()
	}
}

// forgetConnections says that no connection seen so far is of this process.
func (s *senders) forgetConnections() {
	for _, x := range s.all {
		x.routes = nil
		for i := range x.tails {
			x.tails[i].live = false
		}
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
		*st.total++
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
			*st.total--
		}
	}
}

// own finds the record's stream (st when it is the batch's so far) and says
// whether the record is a resend; if not, it is remembered.
func (x *sender) own(s *senders, st *stream, conn uint64, r *Record) (*stream, bool) {
	h, seq := hash32(r.Raw), r.Seq&seqMask
	if st == nil {
		st = x.routed(conn)
	}
	// The common case first: the stream's next number. With several streams, which
	// may have been taken for one another, another one may know it.
	if st != nil && len(x.streams) == 1 && seq == (st.last+1)&seqMask {
		st.advance(seq)
		st.put(seq, h)
		return st, false
	}
	for _, c := range x.streams {
		if c.at(seq) == h {
			x.routeTo(s, conn, c)
			return c, true
		}
	}
	if st == nil || !st.takes(seq) {
		// A stream that goes on just here, or a new one: a wrong guess would write
		// over what is known of another sender.
		st = nil
		for _, c := range x.streams {
			if seq == (c.last+1)&seqMask && (st == nil || c.used > st.used) {
				st = c
			}
		}
		if st == nil {
			st = x.newStream(s, seq)
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

func (x *sender) newStream(s *senders, seq uint32) *stream {
	if len(x.streams) >= maxStreams {
		old := slices.MinFunc(x.streams, func(a, b *stream) int { return int(int64(a.used) - int64(b.used)) })
		x.drop(old)
	}
	x.nextID++
	st := &stream{id: x.nextID, last: seq, dirty: 1 << numChunks, total: s.chunks}
	x.streams = append(x.streams, st)
	return st
}

func (x *sender) drop(st *stream) {
	x.gone = append(x.gone, st.id)
	st.clear()
	x.streams = slices.DeleteFunc(x.streams, func(c *stream) bool { return c == st })
	x.routes = slices.DeleteFunc(x.routes, func(r route) bool { return r.stream == st })
}

func (x *sender) routed(conn uint64) *stream {
	for i := len(x.routes) - 1; i >= 0; i-- {
		if x.routes[i].conn == conn {
			return x.routes[i].stream
		}
	}
	return nil
}

func (x *sender) routeTo(s *senders, conn uint64, st *stream) {
	s.clock++
	st.used = s.clock
	for i := range x.routes {
		if x.routes[i].conn == conn {
			x.routes[i].stream = st
			return
		}
	}
	if len(x.routes) >= maxRoutes {
		x.routes = append(x.routes[:0], x.routes[1:]...)
	}
	x.routes = append(x.routes, route{conn, st})
}

// ---- stock senders ----

func (x *sender) tail(conn uint64) *tail {
	for i := range x.tails {
		if x.tails[i].live && x.tails[i].conn == conn {
			return &x.tails[i]
		}
	}
	return nil
}

// stock says whether the record is a resend; needed: it is the last of its batch,
// so its hash must be remembered.
func (x *sender) stock(s *senders, conn uint64, r *Record, needed bool) bool {
	t := x.tail(conn)
	if t != nil && !needed {
		return false
	}
	h := xxhash.Sum64(r.Raw)
	resend := false
	if t == nil {
		for i := range x.tails {
			resend = resend || x.tails[i].hash == h
		}
	}
	x.setTail(s, conn, h)
	return resend
}

func (x *sender) setTail(s *senders, conn, hash uint64) {
	s.clock++
	x.tailsCh = true
	t := x.tail(conn)
	if t == nil {
		if len(x.tails) >= maxTails {
			i := 0
			for k := range x.tails {
				if x.tails[k].used < x.tails[i].used {
					i = k
				}
			}
			x.tails = append(x.tails[:i], x.tails[i+1:]...)
		}
		x.tails = append(x.tails, tail{conn: conn, live: true})
		t = &x.tails[len(x.tails)-1]
	}
	t.hash, t.used = hash, s.clock
}
