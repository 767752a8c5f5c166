package dispatch

import (
	"sync"

	"github.com/auditfleet/auditfleet/pkg/wake"
)

// Batch holds records on their way to plugins. Add copies them; after Dispatcher.Put the
// batch never changes, so all queues share it without a lock. entries[i].end is where
// record i's line ends in data, its newline included; the next line begins there.
type Batch struct {
	data    []byte // lines with their newlines
	entries []entry
}

// entry is a record of a batch.
type entry struct {
	end int // in data, newline included
	typ uint16
}

// NewBatch returns an empty batch with room for that many bytes and records; it grows
// beyond them when needed.
func NewBatch(bytes, records int) *Batch {
	return &Batch{data: make([]byte, 0, bytes), entries: make([]entry, 0, records)}
}

// Add appends a record: its type and its line without the newline.
func (b *Batch) Add(typ uint16, line []byte) {
	b.data = append(append(b.data, line...), '\n')
	b.entries = append(b.entries, entry{end: len(b.data), typ: typ})
}

// Len returns the number of records.
func (b *Batch) Len() int { return len(b.entries) }

// Bytes returns the size of all lines together, with their newlines.
func (b *Batch) Bytes() int { return len(b.data) }

// line returns record i without its newline, a part of data.
func (b *Batch) line(i int) []byte { return b.data[b.start(i) : b.entries[i].end-1] }

// start returns where record i's line begins in data.
func (b *Batch) start(i int) int {
	if i == 0 {
		return 0
	}
	return b.entries[i-1].end
}

// span is records from up to, but not including, to of a batch.
type span struct {
	b        *Batch
	from, to int
}

// queue is a bounded queue of records. Any goroutine may put, which never waits; one
// goroutine consumes. It holds depth records, and more as long as all of them are no more
// than slack bytes: the kernel's bursts come faster than any plugin reads.
//
// The consumer looks at the oldest span with head, deals with some of its records without
// the lock, and takes these off with pop. That is safe since nobody else takes from the
// front (clear is the consumer's, too), and the records of a batch never change.
type queue struct {
	slack   int         // bytes
	changed wake.Signal // wakes the consumer: set after put and close

	mu     sync.Mutex // guards everything below
	spans  []span     // oldest first; none is empty
	count  int        // records in spans
	bytes  int        // of those records
	depth  int        // records
	most   int        // the highest count there was
	closed bool       // put takes no more
}

func newQueue(b bound) *queue {
	return &queue{slack: b.slack, depth: b.depth, changed: wake.New()}
}

// bound is how much a queue holds.
type bound struct{ depth, slack int }

// put appends the first records of a batch, as many as have room, and returns how many had
// none: all of them once the queue is closed.
func (q *queue) put(b *Batch) (dropped int) {
	q.mu.Lock()
	n := min(b.Len(), max(q.depth-q.count, 0))
	for n < b.Len() && q.bytes+b.entries[n].end <= q.slack {
		n++
	}
	if q.closed {
		n = 0
	}
	if n > 0 {
		q.bytes += b.entries[n-1].end
		q.spans = append(q.spans, span{b, 0, n})
		q.count += n
		q.most = max(q.most, q.count)
	}
	q.mu.Unlock()
	if n > 0 {
		q.changed.Set()
	}
	return b.Len() - n
}

// head returns the oldest records, an empty span when there are none, and
// whether none will follow.
func (q *queue) head() (s span, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.spans) > 0 {
		s = q.spans[0]
	}
	return s, q.closed
}

// pop takes n records off the span that head returned, which has at least so many.
func (q *queue) pop(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := &q.spans[0]
	q.bytes -= s.b.entries[s.from+n-1].end - s.b.start(s.from)
	s.from += n
	q.count -= n
	if s.from < s.to {
		return
	}
	s.b = nil
	if q.spans = q.spans[1:]; len(q.spans) == 0 {
		q.spans = nil // let go of the array, which has only grown
	}
}

// clear empties the queue and returns how many records were in it.
func (q *queue) clear() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := q.count
	q.spans, q.count, q.bytes = nil, 0, 0
	return n
}

// resize sets the bound for what is put from now on.
func (q *queue) resize(depth int) {
	q.mu.Lock()
	q.depth = depth
	q.mu.Unlock()
}

// close makes put refuse everything; what is in the queue stays for the consumer.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.changed.Set()
}

// len returns how many records are in the queue, and the most there ever were.
func (q *queue) len() (count, most int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.count, q.most
}
