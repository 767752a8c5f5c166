package journal

import (
	"bytes"
	"errors"
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
// that sender with the same hash. A stock sender counts each attempt, so its
// numbers say nothing; it has one record in flight, so only the first record
// of a connection can be a resend, namely of the last record of an earlier
// connection from that sender. Identical records elsewhere are all kept.
//
// A sender is a name that was verified, or an address (see identity). Behind one address there may be any number of senders, of one name or of many:
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
	kindOffset = 'p' // and the stream's ID (16 bytes); of verified names only
)

// ErrSenders is returned for stored state that cannot be read.
var ErrSenders = errors.New("malformed resend state")

// sender is what is known of one: of a name that was verified, or of an address.
type sender struct {
	id      identity
	used    uint64 // senders.clock when it was last used
	bytes   int    // of memory
	nextID  uint32 // the last stream's
	streams map[*stream]struct{}
	index   map[uint32][]*stream // by a number's chunk: those that may know numbers of it
	routes  map[uint64]*stream   // by connection
	tails   tails
	dirty   bool     // is in senders.dirty
	gone    []uint32 // IDs of streams that the store is to forget
	all     *senders
	byID    map[uint32]*stream // while loading
}

// senders is resend detection. All of it is guarded by Journal.commitMu: batches go
// through filter in the order in which they are committed, and one that was not committed
// through forget before the next.
type senders struct {
	max       int       // senders
	most      int       // bytes of memory
	bytes     int       // of memory that all take
	forgotten uint64    // streams and tails that were dropped for want of memory
	clock     uint64    // counts uses
	began     time.Time // receipt of the first batch of this run
	all       map[identity]*sender
	dirty     []*sender // with something that the store is to be told
	gone      []KV      // deletions of forgotten senders
	offsets   *offsets  // of those with streams of offsets, who have nothing else here
	adopted   map[adoptedStream]*stream
}

func newSenders(maxSenders int) *senders {
	return &senders{max: max(maxSenders, 1), most: ResendMemory, all: map[identity]*sender{}, offsets: newOffsets()}
}

// hash32 is a record's hash, never 0.
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
		x.account(senderCost + len(id.name))
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
			st, resend = x.filterNumbered(s, st, b.Conn, r)
		} else {
			resend = x.filterStock(b, r, i == len(b.Records)-1 || b.Records[i+1].Seq&OwnNumbering != 0)
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
	if b.hasOffsets() {
		s.offsets.observe(b)
		return
	}
	if !b.Managed || len(b.Records) == 0 {
		return
	}
	x := s.get(b.Sender.identity())
	s.touch(x)
	var st *stream
	for i := range b.Records {
		r := &b.Records[i]
		if r.Seq&OwnNumbering != 0 {
			st, _ = x.filterNumbered(s, st, b.Conn, r)
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

// nameOf is a record's name, as far as it is kept.
func nameOf(raw []byte) []byte {
	node := nodeOf(raw)
	return node[:min(len(node), maxName)]
}

// filterStock says whether a stock sender's record is a resend. last says that it is the
// last of its batch, so that its hash must be remembered.
func (x *sender) filterStock(b *Batch, r *Record, last bool) bool {
	known := x.tails.of(b.Conn)
	if known && !last {
		return false
	}
	h := xxhash.Sum64(r.Raw)
	resend := !known && x.tails.has(h)
	x.tails.set(x, b.Conn, h, b.Received)
	x.tails.prune(x, b.Received)
	return resend
}
