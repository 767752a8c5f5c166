package kernel

import (
	"context"
	"io"
	"sync"

	"github.com/auditfleet/auditfleet/pkg/wake"
)

// Record is one record as the kernel gave it: Text is "audit(…): …" without a
// trailing NUL or newline.
type Record struct {
	Type uint16
	Text []byte
}

// blockSize is what one Block holds. A block must hold the longest record.
const blockSize = 128 << 10

type blockEntry struct {
	typ uint16
	end uint32
}

// Block is a run of records in one piece of memory, the unit in which a Queue
// hands them on.
type Block struct {
	data    []byte
	entries []blockEntry
}

// Len is the number of records.
func (b *Block) Len() int { return len(b.entries) }

// Bytes is the length of all texts together.
func (b *Block) Bytes() int { return len(b.data) }

// Record returns record i; its text is valid until the block is released.
func (b *Block) Record(i int) Record {
	start := uint32(0)
	if i > 0 {
		start = b.entries[i-1].end
	}
	e := b.entries[i]
	return Record{Type: e.typ, Text: b.data[start:e.end:e.end]}
}

func (b *Block) fits(n int) bool { return len(b.data)+n <= cap(b.data) }

// Queue is a bounded first-in first-out queue of records, counted in whole
// blocks, with one producer that never waits and one consumer. Blocks are used
// again, so a running queue allocates nothing.
type Queue struct {
	limit int         // blocks
	ready wake.Signal // records were put, or the queue was closed
	space wake.Signal // a block came back

	mu     sync.Mutex // guards what follows
	full   []*Block   // oldest first; the last one is still being filled
	free   []*Block
	out    int // blocks the consumer holds
	count  int // records in full
	bytes  int // in full
	closed bool
}

// NewQueue makes a queue of about maxBytes, at least one megabyte.
func NewQueue(maxBytes int) *Queue {
	return &Queue{
		limit: max(maxBytes, 1<<20) / blockSize,
		ready: wake.New(),
		space: wake.New(),
	}
}

// Cap is the queue's bound in bytes.
func (q *Queue) Cap() int { return q.limit * blockSize }

// Len returns how many records and bytes wait for the consumer.
func (q *Queue) Len() (records, bytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.count, q.bytes
}

// hasRoom reports whether n bytes can be put for certain.
func (q *Queue) hasRoom(n int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	// A record that does not fit a block's rest starts a new one.
	blocks := n/(blockSize-MaxMessage) + 1
	return len(q.full)+q.out+blocks <= q.limit
}

// Put appends records, in order, and returns how many found room.
func (q *Queue) Put(records []Record) int {
	if len(records) == 0 {
		return 0
	}
	q.mu.Lock()
	n := 0
	for ; n < len(records); n++ {
		if !q.putLocked(records[n]) {
			break
		}
	}
	q.mu.Unlock()
	if n > 0 {
		q.ready.Set()
	}
	return n
}

func (q *Queue) putLocked(r Record) bool {
	if len(r.Text) > blockSize || q.closed {
		return false
	}
	last := len(q.full) - 1
	if last < 0 || !q.full[last].fits(len(r.Text)) {
		if len(q.full)+q.out >= q.limit {
			return false
		}
		q.full = append(q.full, q.newBlockLocked())
		last++
	}
	b := q.full[last]
	b.data = append(b.data, r.Text...)
	b.entries = append(b.entries, blockEntry{typ: r.Type, end: uint32(len(b.data))})
	q.count++
	q.bytes += len(r.Text)
	return true
}

func (q *Queue) newBlockLocked() *Block {
	if n := len(q.free); n > 0 {
		b := q.free[n-1]
		q.free = q.free[:n-1]
		return b
	}
	return &Block{data: make([]byte, 0, blockSize), entries: make([]blockEntry, 0, blockSize/256)}
}

// Take waits for records and returns the oldest block. After Close it returns
// what is left, then io.EOF. The block must be given back with Release.
func (q *Queue) Take(ctx context.Context) (*Block, error) {
	for {
		if b, closed := q.tryTake(); b != nil {
			return b, nil
		} else if closed {
			return nil, io.EOF
		}
		select {
		case <-q.ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// TryTake is Take without waiting: nil when nothing is there.
func (q *Queue) TryTake() *Block {
	b, _ := q.tryTake()
	return b
}

// Ready is signalled when records were put or the queue was closed.
func (q *Queue) Ready() <-chan struct{} { return q.ready }

func (q *Queue) tryTake() (b *Block, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.full) == 0 {
		return nil, q.closed
	}
	b = q.full[0]
	copy(q.full, q.full[1:])
	q.full[len(q.full)-1] = nil
	q.full = q.full[:len(q.full)-1]
	q.out++
	q.count -= b.Len()
	q.bytes -= b.Bytes()
	return b, false
}

// Release gives a block back. After a burst the memory is let go: only a few
// blocks are kept.
func (q *Queue) Release(b *Block) {
	const keep = 4
	b.data, b.entries = b.data[:0], b.entries[:0]
	q.mu.Lock()
	q.out--
	if len(q.free) < keep {
		q.free = append(q.free, b)
	}
	q.mu.Unlock()
	q.space.Set()
}

// Closed reports whether Close was called.
func (q *Queue) Closed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed
}

// Close ends the queue: what is in it can still be taken.
func (q *Queue) Close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.ready.Set()
}
