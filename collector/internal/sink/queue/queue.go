// Package queue holds what waits for one sink of alerts: bounded by number and bytes, on
// disk over restarts and kills, and in order within an alert. Only collector/internal/sink
// imports it; it imports pkg/seglog, pkg/fsys and pkg/wake. FORMAT.md describes the files.
//
// Put never touches the disk: a goroutine of the queue's own writes what was put, so a
// disk that hangs holds up nobody. What can't be written is kept in memory and delivered
// all the same. Any goroutine may call any method, but only one may Take.
package queue

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/seglog"
	"github.com/auditfleet/auditfleet/pkg/wake"
)

// Item is what is put into a queue.
type Item struct {
	// ID is the alert's: what has one ID is taken in the order in which it was put.
	ID string
	// Episode tells an alert's times of firing apart. A newer item replaces one that waits
	// with the same ID and Episode.
	Episode string
	// Group is what items have in common that may be taken together.
	Group string
	// Rank says which items are dropped first when there are too many: those of the lowest.
	Rank int
	Data []byte // JSON
}

// Entry is an item in the queue.
type Entry struct {
	Item
	Seq uint64 // its place; no other has it, over restarts too
}

// entry is an Entry with what the queue knows of it.
type entry struct {
	Entry
	tries int  // how often it was taken and came back
	taken bool // by Take, and neither Done nor Return was called
	// older and newer are the neighbours among the items of one ID.
	older, newer *entry
}

func (e *entry) size() int64 {
	return int64(len(e.Data) + len(e.ID) + len(e.Episode) + len(e.Group) + 128)
}

// Limits bound a queue.
type Limits struct {
	Items int
	Bytes int64
}

// Config configures Open.
type Config struct {
	FS  fsys.FS
	Dir string // made when it is not there
	Limits
	Log hclog.Logger
	Now func() time.Time
	// Dropped is called, with no lock held, when items are dropped because there are more
	// than Limits say.
	Dropped func(items int)
}

// Queue is an open queue. The caller must close it.
type Queue struct {
	cfg Config
	// wake is set when there may be something to take, dirty when there is something to
	// write.
	wake, dirty wake.Signal
	stop        context.CancelFunc
	writer      sync.WaitGroup
	log         *seglog.Log // the writer's; nil: it could not be opened
	loaded      bool        // the writer's: the log's entries are in memory

	mu     sync.Mutex        // guards what follows
	items  []*entry          // by Seq
	latest map[string]*entry // the newest of each ID in items
	bytes  int64
	next   uint64 // the next Seq, at least
	limits Limits
	// changes are not written yet; rewrite says instead that all items have to be.
	changes []change
	rewrite bool
	made    uint64        // changes made so far
	saved   uint64        // how many of them are on disk
	tried   uint64        // how many of them the writer has tried to write
	failed  error         // of the writer's last try
	round   chan struct{} // closed when the writer has done a round
}

// Open opens the queue in cfg.Dir. A folder that can't be used is no error, for the queue
// works without: it is logged, and tried again while the queue is open.
func Open(cfg Config) *Queue {
	q := &Queue{
		cfg: cfg, wake: wake.New(), dirty: wake.New(), limits: cfg.Limits,
		latest: map[string]*entry{}, round: make(chan struct{}),
	}
	q.next = uint64(max(cfg.Now().UnixNano(), 1))
	_ = q.openLog() // it is logged, and tried again
	ctx, stop := context.WithCancel(context.Background())
	q.stop = stop
	q.writer.Go(func() { q.write(ctx) })
	if q.Len() > 0 {
		q.wake.Set()
	}
	return q
}

// Put queues items, in this order, and drops others when they are too many. It never
// waits for the disk.
func (q *Queue) Put(items ...Item) {
	q.mu.Lock()
	dropped := 0
	for _, it := range items {
		e := &entry{Entry: Entry{Item: it, Seq: q.next}}
		q.next++
		var instead []uint64
		for old := q.latest[it.ID]; old != nil; old = old.older {
			if old.Episode == it.Episode && !old.taken {
				instead = append(instead, old.Seq)
			}
		}
		if len(instead) > 0 {
			q.removeLocked(func(old *entry) bool { return slices.Contains(instead, old.Seq) })
		}
		q.insertLocked(e)
		q.changedLocked(change{Add: added(&e.Entry), Done: instead})
		dropped += q.boundLocked()
	}
	q.mu.Unlock()
	q.dirty.Set()
	q.wake.Set()
	q.sayDropped(dropped)
}

// SetLimits changes the limits, and drops what is beyond them.
func (q *Queue) SetLimits(l Limits) {
	q.mu.Lock()
	q.limits = l
	dropped := q.boundLocked()
	q.mu.Unlock()
	q.dirty.Set()
	q.sayDropped(dropped)
}

func (q *Queue) sayDropped(n int) {
	if n > 0 && q.cfg.Dropped != nil {
		q.cfg.Dropped(n)
	}
}

// insertLocked adds e, which is newer than all there are.
func (q *Queue) insertLocked(e *entry) {
	q.items = append(q.items, e)
	if e.older = q.latest[e.ID]; e.older != nil {
		e.older.newer = e
	}
	q.latest[e.ID] = e
	q.bytes += e.size()
}

// removeLocked removes the items for which gone returns true.
func (q *Queue) removeLocked(gone func(*entry) bool) {
	q.items = slices.DeleteFunc(q.items, func(e *entry) bool {
		if !gone(e) {
			return false
		}
		q.bytes -= e.size()
		if e.older != nil {
			e.older.newer = e.newer
		}
		switch {
		case e.newer != nil:
			e.newer.older = e.older
		case e.older != nil:
			q.latest[e.ID] = e.older
		default:
			delete(q.latest, e.ID)
		}
		return true
	})
}

// few is how many items are dropped one by one.
const few = 4

// boundLocked drops what is beyond the limits and returns how many items that are. The
// newest state of an alert matters more than what it was before, and a grave alert more than
// one that is for information.
func (q *Queue) boundLocked() (dropped int) {
	for ; q.beyondLocked(len(q.items), q.bytes); dropped++ {
		if dropped == few {
			return dropped + q.boundManyLocked()
		}
		var victim *entry
		for _, e := range q.items {
			if !e.taken && (victim == nil || goesBefore(e, victim) < 0) {
				victim = e
			}
		}
		if victim == nil { // all that is left is being sent
			return dropped
		}
		q.removeLocked(func(e *entry) bool { return e == victim })
		q.changedLocked(change{Done: []uint64{victim.Seq}})
	}
	return dropped
}

// boundManyLocked is boundLocked for limits that are much lower than they were.
func (q *Queue) boundManyLocked() (dropped int) {
	list := slices.DeleteFunc(slices.Clone(q.items), func(e *entry) bool { return e.taken })
	slices.SortStableFunc(list, goesBefore)
	items, bytes := len(q.items), q.bytes
	gone := map[*entry]bool{}
	var seqs []uint64
	for _, e := range list {
		if !q.beyondLocked(items, bytes) {
			break
		}
		gone[e], items, bytes = true, items-1, bytes-e.size()
		seqs = append(seqs, e.Seq)
	}
	q.removeLocked(func(e *entry) bool { return gone[e] })
	q.changedLocked(change{Done: seqs})
	return len(seqs)
}

// beyondLocked reports whether so many items of so many bytes are too many.
func (q *Queue) beyondLocked(items int, bytes int64) bool {
	return items > max(q.limits.Items, 1) || bytes > q.limits.Bytes
}

// goesBefore orders what is dropped: what has a newer one of its alert behind it, then by rank.
func goesBefore(x, y *entry) int {
	if old := x.newer != nil; old != (y.newer != nil) {
		if old {
			return -1
		}
		return 1
	} else if old {
		return 0
	}
	return cmp.Compare(x.Rank, y.Rank)
}

// Take returns the next items to send, all of one group: at most most of them with bytes
// of data (one, however large), fewer where they came back before. They stay in the queue until Done. It
// returns none when there is nothing to send. What failed less often goes first.
func (q *Queue) Take(most, bytes int) []Entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	var first *entry
	for _, e := range q.items {
		if e.older == nil && !e.taken && (first == nil || e.tries < first.tries) {
			first = e
		}
	}
	if first == nil {
		return nil
	}
	most = max(1, most>>min(first.tries, 30))
	var batch []Entry
	mine := map[*entry]bool{}
	for _, e := range q.items {
		if len(batch) == most {
			break
		}
		if e.Group == first.Group && e.tries == first.tries && !e.taken && (e.older == nil || mine[e.older]) && (len(batch) == 0 || len(e.Data) <= bytes) {
			e.taken, mine[e] = true, true
			bytes -= len(e.Data)
			batch = append(batch, e.Entry)
		}
	}
	return batch
}

// Done removes items that were taken.
func (q *Queue) Done(batch []Entry) {
	gone := make(map[uint64]bool, len(batch))
	seqs := make([]uint64, len(batch))
	for i, e := range batch {
		gone[e.Seq], seqs[i] = true, e.Seq
	}
	q.mu.Lock()
	q.removeLocked(func(e *entry) bool { return gone[e.Seq] })
	q.changedLocked(change{Done: seqs})
	q.mu.Unlock()
	q.dirty.Set()
}

// Return gives back items that could not be sent. With alone, each is taken by itself from
// now on, since one of them may be what fails all.
func (q *Queue) Return(batch []Entry, alone bool) {
	back := make(map[uint64]bool, len(batch))
	for _, e := range batch {
		back[e.Seq] = true
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range q.items {
		if back[e.Seq] {
			e.taken = false
			if e.tries++; alone {
				e.tries = max(e.tries, 30)
			}
		}
	}
}

// Wake receives after a Put; the one who takes then looks whether there is anything.
func (q *Queue) Wake() <-chan struct{} { return q.wake }

// Len returns how many items wait.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}

// Unsaved returns why what waits is in memory only, nil when it is on disk or is just
// being written.
func (q *Queue) Unsaved() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.failed
}
