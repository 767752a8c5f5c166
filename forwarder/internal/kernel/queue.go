package kernel

import (
	"context"
	"io"
	"sync"

	"github.com/auditfleet/auditfleet/pkg/wake"
)

// Record is one record as the kernel sent it: Text is "audit(…): …" without trailing NULs
// or newlines. It aliases a buffer: who returns a Record says how long it is valid.
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

// Block holds consecutive records in one piece of memory; a Queue hands out whole blocks.
// entries[i].end is where record i's text ends in data; the next one begins there. The
// Queue owns a block until Take returns it, and again after Release; between them only
// the consumer may use it, and no lock is needed.
type Block struct {
	data    []byte
	entries []blockEntry
}

// Len returns the number of records.
func (b *Block) Len() int { return len(b.entries) }

// Bytes returns the length in bytes of all texts together.
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

// Queue is a bounded first-in first-out queue of records, with one producer, which never
// waits, and one consumer. Its bound counts whole blocks: those in full and those that
// the consumer holds (out) together are never more than limit, so a consumer that keeps
// its blocks makes the queue full, and memory stays bounded. Released blocks are used
// again, so a queue allocates nothing once it has run a while.
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

// NewQueue returns an empty queue bounded to about maxBytes, at least one megabyte.
func NewQueue(maxBytes int) *Queue {
	return &Queue{
		limit: max(maxBytes, 1<<20) / blockSize,
		ready: wake.New(),
		space: wake.New(),
	}
}

// Cap returns the queue's bound in bytes.
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

// Put copies records into the queue, in order, and returns how many found room. It never
// waits. Only the producer may call it.
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

// Take waits for records and returns the oldest block, or ctx's error when ctx ends. After
// Close it returns the blocks that are left, then io.EOF. The caller, the consumer, must
// give each block back with Release.
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

// TryTake is Take without waiting; it returns nil when the queue is empty.
func (q *Queue) TryTake() *Block {
	b, _ := q.tryTake()
	return b
}

// Ready returns a channel that delivers a value after records were put or the queue was
// closed.
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

// Release gives a block back to the queue; the consumer must not use it or its records
// afterwards. The queue keeps only a few free blocks, so memory shrinks after a burst.
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

// Close ends the queue: no record is accepted any more, and Take returns what is left.
func (q *Queue) Close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.ready.Set()
}
