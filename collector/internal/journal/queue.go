package journal

import (
	"context"
	"fmt"
)

// leader says who commits at present. It alone writes to the log and calls done,
// so that both keep the order of submission.
type leader uint8

const (
	nobody leader = iota
	// submitter is a goroutine in Submit or Commit that found nobody committing: with
	// senders in lockstep there is no hand-over at all.
	submitter
	committer // the journal's own goroutine
)

const (
	// leadRecords is the most records of a batch that its Submit commits itself, and
	// commitRecords of all that Commit does. More come from senders with many in
	// flight: they are better read on meanwhile.
	leadRecords   = 8
	commitRecords = 512
	// groupBytes is the most bytes of records one commit takes, so that the first
	// batch's acknowledgement does not wait for the writing of a whole queue.
	groupBytes = 4 << 20
)

// Submit hands a batch over. It blocks while the queue is full, until ctx ends or
// the journal is closed; a deferred one gets ErrBusy instead. After nil, done is called exactly once, in order of
// submission; it must not block. That is from another goroutine, or from Submit
// itself before it returns, when nobody else was committing. done(nil) means stored
// as the flush mode says, or recognised as stored before; the batch may be in other
// hands by then. After an error of Submit, done is not called and the batch remains
// the caller's.
func (j *Journal) Submit(ctx context.Context, b *Batch, done func(error)) error {
	size := b.Bytes()
	if size > MaxBatch {
		return fmt.Errorf("%w: %d bytes in %d records, %d is the most", ErrTooLarge, size, len(b.Records), MaxBatch)
	}
	c := j.share.costOf(b, size)
	if !j.share.tryAcquire(c) {
		if b.Deferred {
			return ErrBusy
		}
		if err := j.awaitRoom(ctx, c); err != nil {
			return err
		}
	}
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		j.share.release(c)
		return ErrClosed
	}
	j.queue = append(j.queue, item{batch: b, done: done, cost: c})
	if b.Deferred {
		j.mu.Unlock()
		return nil
	}
	j.commitSoon(len(b.Records) <= leadRecords, false)
	return nil
}

// awaitRoom takes room in the queue when there is some. What is ready has some of it, and is taken at once meanwhile.
func (j *Journal) awaitRoom(ctx context.Context, c cost) error {
	j.short.Add(1)
	defer j.short.Add(-1)
	j.available.Set()
	return j.share.acquire(ctx, j.stop, c)
}

// Commit has what was deferred committed: here, before it returns, when it is little
// and nobody else commits. thin says that nobody sends as fast as it is answered: then the sync may take some µs longer for less CPU.
func (j *Journal) Commit(thin bool) {
	j.mu.Lock()
	if len(j.queue) == 0 {
		j.mu.Unlock()
		return // somebody took it along
	}
	records := 0
	for i := 0; i < len(j.queue) && records <= commitRecords; i++ {
		records += len(j.queue[i].batch.Records)
	}
	j.commitSoon(records <= commitRecords, thin)
}

// commitSoon has the queue committed: by the caller when it is little and nobody else
// commits. mu is held, and is not when commitSoon returns.
func (j *Journal) commitSoon(little, thin bool) {
	idle := j.leader == nobody
	if j.started && idle && little {
		j.leader = submitter
		work := j.swapQueue()
		j.mu.Unlock()
		j.lead(work, thin)
		return
	}
	j.urgent = true
	j.mu.Unlock()
	if idle { // else who leads looks again before it resigns
		j.queued.Set()
	}
}

// due says whether the queue is to be committed now. mu is held.
func (j *Journal) due() bool { return j.urgent || j.closed }

// swapQueue gives the queue to the one who leads, and puts its other half in its place.
// mu is held.
func (j *Journal) swapQueue() []item {
	work := j.queue
	j.queue, j.spare = j.spare[:0], nil
	j.urgent = false
	return work
}

// recycle ends the use of what swapQueue gave. mu is held.
func (j *Journal) recycle(work []item) {
	clear(work)
	j.spare = work[:0]
}

// lead commits what was queued, and leaves what comes meanwhile to the committer.
func (j *Journal) lead(work []item, thin bool) {
	j.commitAll(work, thin)
	j.mu.Lock()
	j.recycle(work)
	j.leader = nobody
	more := j.due()
	j.mu.Unlock()
	if more {
		j.queued.Set()
	}
}

// run is the committer.
func (j *Journal) run() {
	defer j.wg.Done()
	defer func() {
		j.mu.Lock()
		j.stopped = true
		j.mu.Unlock()
		j.available.Set()
		close(j.syncDue)
	}()
	for {
		j.mu.Lock()
		if j.leader == submitter {
			j.mu.Unlock()
			<-j.queued // comes when it has resigned, if there is anything to do
			continue
		}
		if !j.due() {
			j.leader = nobody
			j.mu.Unlock()
			<-j.queued
			continue
		}
		if len(j.queue) == 0 { // and closed
			j.leader = nobody
			j.mu.Unlock()
			return
		}
		j.leader = committer
		work := j.swapQueue()
		j.mu.Unlock()
		j.commitAll(work, false)
		j.mu.Lock()
		j.recycle(work)
		j.mu.Unlock()
	}
}

// commitAll commits by groups of groupBytes.
func (j *Journal) commitAll(work []item, thin bool) {
	for len(work) > 0 {
		n, size := 0, int64(0)
		for n < len(work) && (n == 0 || size+work[n].cost.all <= groupBytes) {
			size += work[n].cost.all
			n++
		}
		j.commit(work[:n], thin)
		work = work[n:]
	}
}
