package journal

import (
	"context"
	"fmt"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
)

// recordCost is what a record costs in memory beside its bytes, and batchCost a
// batch beside its records, with what its session keeps of it. TestQueueIsMemory
// compares with the heap.
const (
	recordCost = 48
	batchCost  = 384
)

// Heavy batches may hold heavyShare of four parts of the queue, in which a record counts
// heavyRecord bytes at least: what it costs the store is time, of which a short one takes
// as much. So a light batch never waits for room behind heavy ones, and at most for the
// writing of that part.
const (
	heavyShare  = 3
	heavyRecord = 256
)

// cost is what a batch takes of the queue, in bytes.
type cost struct{ all, heavy int64 }

func (c *cost) add(o cost) {
	c.all += o.all
	c.heavy += o.heavy
}

// share is the queue's room: for all batches, and for the heavy ones of them. Their room
// is always taken first.
type share struct {
	all, heavy           *semaphore.Weighted
	allLimit, heavyLimit int64
	held, heavyHeld      atomic.Int64
}

func (s *share) init(limit int64) {
	s.allLimit, s.heavyLimit = limit, max(limit/4*heavyShare, 1)
	s.all, s.heavy = semaphore.NewWeighted(s.allLimit), semaphore.NewWeighted(s.heavyLimit)
}

// costOf is what a batch takes whose records have so many bytes. One that is larger than
// all there is waits until it is alone.
func (s *share) costOf(b *Batch, bytes int64) cost {
	records := int64(len(b.Records))
	c := cost{all: min(bytes+records*recordCost+batchCost, s.allLimit)}
	if b.Heavy {
		c.heavy = min(max(c.all, records*heavyRecord), s.heavyLimit)
	}
	return c
}

// tryAcquire takes room if there is some.
func (s *share) tryAcquire(c cost) bool {
	if c.heavy > 0 && !s.heavy.TryAcquire(c.heavy) {
		return false
	}
	if !s.all.TryAcquire(c.all) {
		s.heavy.Release(c.heavy)
		return false
	}
	s.count(c, 1)
	return true
}

// acquire takes room when there is some, unless ctx ends or stop is closed first.
func (s *share) acquire(ctx context.Context, stop <-chan struct{}, c cost) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watch := make(chan struct{})
	defer close(watch)
	go func() {
		select {
		case <-stop:
			cancel()
		case <-watch:
		}
	}()
	var err error
	if c.heavy > 0 { // else it would wait behind those who have some
		err = s.heavy.Acquire(ctx, c.heavy)
	}
	if err == nil {
		if err = s.all.Acquire(ctx, c.all); err != nil {
			s.heavy.Release(c.heavy)
		}
	}
	if err == nil {
		s.count(c, 1)
		return nil
	}
	select {
	case <-stop:
		return ErrClosed
	default:
		return fmt.Errorf("submit to the journal: %w", err)
	}
}

// release gives room back.
func (s *share) release(c cost) {
	s.count(c, -1)
	s.all.Release(c.all)
	s.heavy.Release(c.heavy)
}

func (s *share) count(c cost, sign int64) {
	s.held.Add(sign * c.all)
	s.heavyHeld.Add(sign * c.heavy)
}

// Busy says that heavy batches hold most of their part of the queue: those who have more
// of them may as well wait before they read them.
func (j *Journal) Busy() bool { return j.share.heavyHeld.Load() >= j.share.heavyLimit*3/4 }
