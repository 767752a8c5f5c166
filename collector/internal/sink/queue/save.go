package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/auditfleet/auditfleet/pkg/seglog"
)

const (
	// kind is the log's.
	kind = "alert-queue"
	// segmentBytes is small, for a queue is seldom long; a log of more than slack bytes and
	// some times what waits is written anew.
	segmentBytes = 256 << 10
	slack        = 1 << 20
	// retryEvery is how often a disk that failed is tried again.
	retryEvery = 5 * time.Second
)

// changedLocked notes a change for the writer. What waits to be written is bounded: beyond
// that the writer writes all items instead.
func (q *Queue) changedLocked(c change) {
	q.made++
	if q.rewrite {
		return
	}
	if q.changes = append(q.changes, c); len(q.changes) > 2*q.limits.Items+1000 {
		q.changes, q.rewrite = nil, true
	}
}

// write writes changes until ctx is done, and then once more.
func (q *Queue) write(ctx context.Context) {
	retry := time.NewTicker(retryEvery)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			q.save()
			return
		case <-q.dirty:
			if q.Unsaved() != nil {
				continue // the ticker's
			}
		case <-retry.C:
			if q.Unsaved() == nil {
				continue
			}
		}
		q.save()
	}
}

// save writes what has changed, and says what came of it.
func (q *Queue) save() {
	q.mu.Lock()
	upTo, changes, whole := q.made, q.changes, q.rewrite
	nothing := upTo == q.saved && q.failed == nil
	q.changes = nil
	q.mu.Unlock()
	if nothing {
		return
	}
	err := q.saveTo(changes, whole)
	q.mu.Lock()
	was := q.failed
	q.failed, q.tried = err, upTo
	if err == nil {
		q.saved = upTo
	} else {
		q.changes, q.rewrite = nil, true // the log lacks something
	}
	close(q.round)
	q.round = make(chan struct{})
	q.mu.Unlock()
	switch {
	case err != nil && was == nil:
		q.cfg.Log.Error("alerts that wait are in memory only: their queue can't be written; look at the disk, it is tried again", "folder", q.cfg.Dir, "error", err)
	case err == nil && was != nil:
		q.cfg.Log.Info("the queue of alerts is on disk again", "folder", q.cfg.Dir)
	}
}

// saveTo appends changes to the log, or all items, and makes them durable.
func (q *Queue) saveTo(changes []change, whole bool) error {
	if q.log == nil {
		if err := q.openLog(); err != nil {
			return err
		}
		whole = true
	}
	var err error
	if !whole {
		err = q.append(changes)
	}
	if whole || err == nil && q.log.Size() > slack+4*q.size() {
		err = q.appendAll()
	}
	if errors.Is(err, seglog.ErrFailed) || errors.Is(err, seglog.ErrClosed) {
		_ = q.log.Close() // it failed, and says so again
		q.log = nil
	}
	return err
}

func (q *Queue) size() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes
}

func (q *Queue) append(changes []change) error {
	texts := make([][]byte, len(changes))
	needed := false // what is sent may be sent again after a loss of power
	for i, c := range changes {
		var err error
		if texts[i], err = c.encode(); err != nil {
			return err
		}
		needed = needed || c.Add != nil
	}
	if len(texts) == 0 {
		return nil
	}
	if _, err := q.log.Append(texts...); err != nil || !needed {
		return err
	}
	return q.log.Sync()
}

// appendAll writes all items and, behind them, that nothing before counts; then it removes
// what is before.
func (q *Queue) appendAll() error {
	q.mu.Lock()
	q.changes, q.rewrite = nil, false // what comes from now on is behind these items
	texts := make([][]byte, 0, len(q.items)+1)
	var err error
	for _, e := range q.items {
		var text []byte
		if text, err = (change{Add: added(&e.Entry)}).encode(); err != nil {
			break
		}
		texts = append(texts, text)
	}
	q.mu.Unlock()
	if err != nil {
		return err
	}
	first := q.log.Last() + 1
	end, err := change{Since: first}.encode()
	if err != nil {
		return err
	}
	if _, err := q.log.Append(append(texts, end)...); err != nil {
		return err
	}
	if err := q.log.Sync(); err != nil {
		return err
	}
	return q.log.TruncateFront(first)
}

// openLog opens the log, and, the first time, reads what waits in it. What it
// could not open is tried again by the writer.
func (q *Queue) openLog() error {
	err := q.tryOpen()
	q.mu.Lock()
	defer q.mu.Unlock()
	if err != nil {
		if q.failed == nil {
			q.cfg.Log.Error("the queue of alerts can't be opened: what waits is in memory only", "folder", q.cfg.Dir, "error", err)
		}
		q.failed, q.rewrite = err, true
	}
	return err
}

func (q *Queue) tryOpen() error {
	log, rec, err := seglog.Open(seglog.Options{FS: q.cfg.FS, Dir: q.cfg.Dir, Kind: kind, SegmentBytes: segmentBytes, WatchRemoved: true})
	if err != nil {
		return fmt.Errorf("open the queue of alerts: %w", err)
	}
	if len(rec.Damaged) > 0 {
		q.cfg.Log.Error("the queue of alerts is damaged: some that waited may be lost", "folder", q.cfg.Dir, "found", rec.String())
	}
	if !q.loaded {
		if err := q.load(log); err != nil {
			return errors.Join(err, log.Close())
		}
		q.loaded = true
	}
	q.log = log
	return nil
}

// load puts what waits in the log into memory.
func (q *Queue) load(log *seglog.Log) error {
	r, err := log.Reader(0)
	if err != nil {
		return err
	}
	type logged struct {
		Entry
		index uint64
	}
	waiting := map[uint64]logged{}
	for {
		index, text, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		var damaged *seglog.CorruptError
		if errors.As(err, &damaged) {
			q.cfg.Log.Error("the queue of alerts is damaged", "folder", q.cfg.Dir, "error", err)
			continue
		}
		if err != nil {
			return errors.Join(err, r.Close())
		}
		c, err := decode(text)
		if errors.Is(err, errNewer) {
			return errors.Join(fmt.Errorf("%s: %w: install that version, or move the folder away", q.cfg.Dir, err), r.Close())
		}
		if err != nil {
			q.cfg.Log.Error("the queue of alerts has an entry that can't be read", "folder", q.cfg.Dir, "entry", index, "error", err)
			continue
		}
		for _, seq := range c.Done {
			delete(waiting, seq)
		}
		if c.Add != nil {
			waiting[c.Add.Seq] = logged{c.Add.entry(), index}
		}
		if c.Since > 0 {
			for seq, e := range waiting {
				if e.index < c.Since {
					delete(waiting, seq)
				}
			}
		}
	}
	q.mu.Lock()
	all := slices.Clone(q.items) // put while the log could not be opened
	for e := range maps.Values(waiting) {
		all = append(all, &entry{Entry: e.Entry})
		q.next = max(q.next, e.Seq+1)
	}
	slices.SortFunc(all, func(x, y *entry) int { return cmp.Compare(x.Seq, y.Seq) })
	q.items, q.bytes = nil, 0
	clear(q.latest)
	for _, e := range all {
		e.newer = nil
		q.insertLocked(e)
	}
	dropped := q.boundLocked()
	q.mu.Unlock()
	q.sayDropped(dropped)
	return r.Close()
}

// Sync waits until all that was put before is on disk. It returns why it is not when the
// disk fails, or ctx is done first.
func (q *Queue) Sync(ctx context.Context) error {
	q.mu.Lock()
	upTo := q.made
	for {
		saved, tried, failed, round := q.saved, q.tried, q.failed, q.round
		q.mu.Unlock()
		switch {
		case saved >= upTo:
			return nil
		case failed != nil && tried >= upTo:
			return failed
		}
		select {
		case <-round:
		case <-ctx.Done():
			return fmt.Errorf("the queue of alerts in %s is not on disk yet: %w", q.cfg.Dir, ctx.Err())
		}
		q.mu.Lock()
	}
}

// Close writes what is not written and releases the files. What waits stays in them.
func (q *Queue) Close() error {
	q.stop()
	q.writer.Wait()
	if q.log == nil {
		return nil
	}
	err := q.log.Close()
	q.log = nil
	return err
}
