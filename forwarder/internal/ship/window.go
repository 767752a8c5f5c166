package ship

import "sort"

// state of a record in the window.
type state uint8

const (
	waiting  state = iota // to be sent (again)
	inFlight              // sent over this connection, not answered
	done                  // stored, skipped or dropped
)

type slot struct {
	index uint64
	seq   uint32
	state state
}

// window holds the state of the records between the first that is not done and the last
// that was read from the source, in the source's order, because a server may answer out
// of order. Sender.mu guards it.
//
// What must hold: indexes ascend from head on; 0 <= cursor <= n <= len(ring); the slots
// before cursor are inFlight or done, or waiting after a refusal, and those from cursor on
// were not sent over this connection; flying counts the slots that are inFlight. A slot
// leaves only at the front (pop), and only when it is done.
//
//	ring:  … │ done │ inFlight │ done │ inFlight │ waiting │ waiting │ free …
//	           ↑head                               ↑cursor             ↑head+n (modulo len(ring))
type window struct {
	ring   []slot
	head   int // position of the oldest record in ring
	n      int // number of records
	cursor int // offset from head; the records before it were sent over this connection
	flying int // number of records that are inFlight
}

func newWindow(size int) *window { return &window{ring: make([]slot, size)} }

func (w *window) at(i int) *slot {
	i += w.head
	if i >= len(w.ring) {
		i -= len(w.ring)
	}
	return &w.ring[i]
}

// rewind makes every record that isn't done wait to be sent again, and returns
// the index of the first, false when there is none.
func (w *window) rewind() (uint64, bool) {
	w.cursor = 0
	w.flying = 0
	for i := range w.n {
		if s := w.at(i); s.state == inFlight {
			s.state = waiting
		}
	}
	if w.n == 0 {
		return 0, false
	}
	return w.head0().index, true
}

func (w *window) head0() *slot { return w.at(0) }

// verdict is what take says of a record.
type verdict uint8

const (
	sendNew   verdict = iota // it has a slot now and is to be sent
	sendAgain                // likewise; it was sent before
	skip                     // it is done already
	noRoom                   // the window is full: take it again later
)

// take enters the next record that the source returned and says what to do with it. It is
// called with each record, in the source's order. Waiting records that the source passed
// over were dropped from it: they become done, as nobody can send them any more.
func (w *window) take(index uint64, seq uint32) (*slot, verdict) {
	for w.cursor < w.n {
		s := w.at(w.cursor)
		if s.index > index {
			return nil, skip // older than the window: it was done before
		}
		w.cursor++
		if s.index == index {
			if s.state == done {
				return nil, skip
			}
			return s, sendAgain
		}
		if s.state == waiting {
			s.state = done
		}
	}
	if w.n == len(w.ring) {
		return nil, noRoom
	}
	s := w.at(w.n)
	*s = slot{index: index, seq: seq, state: waiting}
	w.n++
	w.cursor = w.n
	return s, sendNew
}

// canTake reports whether a take can come to more than noRoom.
func (w *window) canTake() bool { return w.cursor < w.n || w.n < len(w.ring) }

func (w *window) send(s *slot) {
	s.state = inFlight
	w.flying++
}

// find returns the record with that sequence id that is or was in flight.
func (w *window) find(seq uint32) *slot {
	if w.n == 0 {
		return nil
	}
	// Ids count up by one, so it is nearly always here.
	first := w.head0().seq
	d := (seq - first) & 0x7fffffff
	if d < uint32(w.n) {
		if s := w.at(int(d)); s.seq == seq {
			return s
		}
	}
	// They jump where records are gone or a run began, and never go back: who answers
	// what was not asked must not cost a look at each.
	i := sort.Search(w.n, func(i int) bool { return (w.at(i).seq-first)&0x7fffffff >= d })
	if i < w.n && w.at(i).seq == seq {
		return w.at(i)
	}
	return nil
}

// settle ends a flight: done, or waiting to be sent again.
func (w *window) settle(s *slot, to state) {
	if s.state == inFlight {
		w.flying--
	}
	s.state = to
}

// settleAll makes everything in flight done.
func (w *window) settleAll() (n int) {
	for i := range w.n {
		if s := w.at(i); s.state == inFlight {
			w.settle(s, done)
			n++
		}
	}
	return n
}

// front is the last index of what is done at the front, false when nothing is.
func (w *window) front() (index uint64, ok bool) {
	for i := 0; i < w.n && w.at(i).state == done; i++ {
		index, ok = w.at(i).index, true
	}
	return index, ok
}

// pop removes the records at the front that are done, up to index.
func (w *window) pop(index uint64) {
	for w.n > 0 && w.head0().state == done && w.head0().index <= index {
		w.head++
		if w.head == len(w.ring) {
			w.head = 0
		}
		w.n--
		w.cursor = max(0, w.cursor-1)
	}
}

// search returns the position of the first record at or after index, n when there is none.
func (w *window) search(index uint64) int {
	return sort.Search(w.n, func(i int) bool { return w.at(i).index >= index })
}
