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
	latest map[string]uint64 // the newest Seq of each ID in items
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
		latest: map[string]uint64{}, round: make(chan struct{}),
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
		q.removeLocked(func(old *entry) bool {
			replaced := old.ID == it.ID && old.Episode == it.Episode && !old.taken
			if replaced {
				instead = append(instead, old.Seq)
			}
			return replaced
		})
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

// insertLocked adds e at its place.
func (q *Queue) insertLocked(e *entry) {
	at, _ := slices.BinarySearchFunc(q.items, e.Seq, func(x *entry, seq uint64) int { return cmp.Compare(x.Seq, seq) })
	q.items = slices.Insert(q.items, at, e)
	q.latest[e.ID] = max(q.latest[e.ID], e.Seq)
	q.bytes += e.size()
}

// removeLocked removes the items for which gone returns true.
func (q *Queue) removeLocked(gone func(*entry) bool) {
	q.items = slices.DeleteFunc(q.items, func(e *entry) bool {
		if !gone(e) {
			return false
		}
		q.bytes -= e.size()
		if q.latest[e.ID] == e.Seq { // all of an ID that are older are gone before, or with it
			delete(q.latest, e.ID)
		}
		return true
	})
}

// boundLocked drops what is beyond the limits and returns how many items that are. The
// newest state of an alert matters more than what it was before, and a grave alert more than
// one that is for information.
func (q *Queue) boundLocked() (dropped int) {
	for len(q.items) > max(q.limits.Items, 1) || q.bytes > q.limits.Bytes {
		var victim *entry
		for _, e := range q.items {
			if e.taken {
				continue
			}
			if q.latest[e.ID] > e.Seq {
				victim = e
				break
			}
			if victim == nil || e.Rank < victim.Rank {
				victim = e
			}
		}
		if victim == nil { // all that is left is being sent
			return dropped
		}
		q.removeLocked(func(e *entry) bool { return e == victim })
		q.changedLocked(change{Done: []uint64{victim.Seq}})
		dropped++
	}
	return dropped
}

// Take returns the next items to send, all of one group: at most most of them with bytes
// of data (one, however large), fewer where they came back before. They stay in the queue until Done. It
// returns none when there is nothing to send. What failed less often goes first.
func (q *Queue) Take(most, bytes int) []Entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	var first *entry
	before := map[string]bool{} // IDs of which an older item waits
	for _, e := range q.items {
		if !before[e.ID] && !e.taken && (first == nil || e.tries < first.tries) {
			first = e
		}
		before[e.ID] = true
	}
	if first == nil {
		return nil
	}
	most = max(1, most>>min(first.tries, 30))
	var batch []Entry
	clear(before)
	for _, e := range q.items {
		mine := e.Group == first.Group && e.tries == first.tries && !e.taken && !before[e.ID]
		if mine && len(batch) < most && (len(batch) == 0 || len(e.Data) <= bytes) {
			e.taken = true
			bytes -= len(e.Data)
			batch = append(batch, e.Entry)
			continue
		}
		before[e.ID] = true
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
