package journal

import "time"

// tail is the last record of a stock sender's connection.
type tail struct {
	conn       uint64
	hash       uint64
	indexed    uint64 // the hash under which it is in tails.hashes: this one, or one before
	used       int64  // when the record was received, in seconds since 1970
	prev, next *tail  // by last use
	live       bool   // conn is one of this process
	stale      bool   // it is in tails.stale
	gone       bool
}

// tails are those of an address. Nobody says which of them are still of use: a
// sender that comes again with another record leaves one behind. The latest eight
// are kept, all others for a day of running.
type tails struct {
	byConn map[uint64]*tail // live ones
	// hashes are how many tails have a hash. A connection's next record changes it, but who
	// asks is only the first record of another one: until then the tail is in stale.
	hashes map[uint64]int
	stale  []*tail
	stored map[uint64]bool // hashes that the store has
	lru    tail            // sentinel of a ring, the least recent first
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

func (ts *tails) has(hash uint64) bool {
	ts.index()
	return ts.hashes[hash] > 0
}

// index brings hashes up to date.
func (ts *tails) index() {
	for i, t := range ts.stale {
		ts.stale[i] = nil
		if t.stale = false; t.gone {
			continue
		}
		ts.unindex(t)
		t.indexed = t.hash
		ts.hashes[t.hash]++
	}
	if ts.stale = ts.stale[:0]; cap(ts.stale) > 2*ts.n+keepTails {
		ts.stale = nil
	}
}

func (ts *tails) unindex(t *tail) {
	if ts.hashes[t.indexed]--; ts.hashes[t.indexed] == 0 {
		delete(ts.hashes, t.indexed)
	}
}

// add puts a tail behind all others.
func (ts *tails) add(x *sender, t *tail) {
	if t.live {
		ts.byConn[t.conn] = t
	}
	t.indexed = t.hash
	ts.hashes[t.hash]++
	ts.push(t)
	ts.n++
	x.account(tailCost)
}

func (ts *tails) remove(x *sender, t *tail) {
	if t.live && ts.byConn[t.conn] == t {
		delete(ts.byConn, t.conn)
	}
	ts.unindex(t)
	t.gone = true
	t.prev.next, t.next.prev = t.next, t.prev
	ts.n--
	x.account(-tailCost)
}

// push makes t the most recent.
func (ts *tails) push(t *tail) {
	t.prev, t.next = ts.lru.prev, &ts.lru
	t.prev.next, ts.lru.prev = t, t
}

// set says what the last record of a connection is.
func (ts *tails) set(x *sender, conn, hash uint64, received time.Time) {
	t := ts.byConn[conn]
	if t == nil {
		ts.add(x, &tail{conn: conn, live: true, hash: hash, used: received.Unix()})
		return
	}
	t.hash, t.used = hash, received.Unix()
	t.prev.next, t.next.prev = t.next, t.prev
	ts.push(t)
	if !t.stale {
		t.stale = true
		ts.stale = append(ts.stale, t)
	}
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
