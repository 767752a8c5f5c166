package journal

import "time"

// tail is the last record of a stock sender's connection.
type tail struct {
	conn       uint64
	live       bool // conn is one of this process
	hash       uint64
	used       int64 // when the record was received, in seconds since 1970
	prev, next *tail // by last use
}

// tails are those of an address. Nobody says which of them are still of use: a
// sender that comes again with another record leaves one behind. The latest eight
// are kept, all others for a day of running.
type tails struct {
	byConn map[uint64]*tail // live ones
	hashes map[uint64]int   // how many tails have a hash
	stored map[uint64]bool  // hashes that the store has
	lru    tail             // sentinel of a ring, the least recent first
	n      int
	old    bool // the store has them in the form of before
}

const (
	keepTails = 8
	tailAge   = 24 * time.Hour
)

func (ts *tails) init() {
	ts.byConn, ts.hashes, ts.stored = map[uint64]*tail{}, map[uint64]int{}, map[uint64]bool{}
	ts.lru.prev, ts.lru.next = &ts.lru, &ts.lru
}

func (ts *tails) of(conn uint64) bool { return ts.byConn[conn] != nil }

func (ts *tails) has(hash uint64) bool { return ts.hashes[hash] > 0 }

// add puts a tail behind all others.
func (ts *tails) add(x *sender, t *tail) {
	if t.live {
		ts.byConn[t.conn] = t
	}
	ts.hashes[t.hash]++
	t.prev, t.next = ts.lru.prev, &ts.lru
	t.prev.next, ts.lru.prev = t, t
	ts.n++
	x.took(tailCost)
}

func (ts *tails) remove(x *sender, t *tail) {
	if t.live && ts.byConn[t.conn] == t {
		delete(ts.byConn, t.conn)
	}
	if ts.hashes[t.hash]--; ts.hashes[t.hash] == 0 {
		delete(ts.hashes, t.hash)
	}
	t.prev.next, t.next.prev = t.next, t.prev
	ts.n--
	x.took(-tailCost)
}

// set says what the last record of a connection is.
func (ts *tails) set(x *sender, conn, hash uint64, received time.Time) {
	t := ts.byConn[conn]
	if t == nil {
		t = &tail{conn: conn, live: true}
	} else {
		ts.remove(x, t)
	}
	t.hash, t.used = hash, received.Unix()
	ts.add(x, t)
}

// forget drops what a connection's last record was: it was not committed.
func (ts *tails) forget(x *sender, conn uint64) {
	if t := ts.byConn[conn]; t != nil {
		ts.remove(x, t)
	}
}

func (ts *tails) forgetConnections(x *sender) {
	for t := ts.lru.next; t != &ts.lru; t = t.next {
		t.live = false
	}
	clear(ts.byConn)
}

// prune drops what nobody is likely to come back to. After a long silence of the
// collector itself everybody has a day to come back.
func (ts *tails) prune(x *sender, now time.Time) {
	horizon := now.Add(-tailAge)
	if x.all.began.After(horizon) {
		return
	}
	for ts.n > keepTails && ts.lru.next.used < horizon.Unix() {
		ts.remove(x, ts.lru.next)
	}
}
