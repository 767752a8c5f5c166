package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// pointEvery is how many entries lie between two points at most, and pointBytes how
// many bytes of records, but for those of one entry.
const (
	pointEvery = 64
	pointBytes = 64 << 10
)

// retryEvery is the least time between two attempts to open a failed log again.
const retryEvery = time.Second

// commit makes a group durable and answers for it. thin is Commit's.
func (j *Journal) commit(group []item, thin bool) {
	j.commitMu.Lock()
	j.writing.Begin(time.Now()) // a clock that is set makes no disk hang
	err := j.write(group, thin)
	j.writing.End()
	j.noteSizes()
	j.commitMu.Unlock()
	j.counters.failing.Store(err != nil)
	if err != nil {
		j.counters.failed.Add(uint64(len(group)))
		for i := range group {
			j.share.release(group[i].cost)
			group[i].done(err)
		}
		return
	}
	j.counters.commits.Add(1)
	// First to the taker, so that what is acknowledged is in Take's next answer.
	j.mu.Lock()
	for i := range group {
		if group[i].err != nil || group[i].batch.LSNs() == 0 {
			continue
		}
		j.makeReady(group[i].batch)
		j.readyCost.add(group[i].cost)
		group[i].cost = cost{}
	}
	tell := j.tellTaker()
	j.mu.Unlock()
	for i := range group {
		if group[i].err != nil {
			j.counters.failed.Add(1)
		}
		j.share.release(group[i].cost) // of what nobody takes: it is refused, or has no records
		group[i].done(group[i].err)
	}
	if tell {
		j.available.Set()
	}
}

// makeReady puts a batch where Take finds it. mu is held.
func (j *Journal) makeReady(b *Batch) {
	if len(j.ready) == 0 {
		j.readySince = time.Now()
	}
	j.ready = append(j.ready, b)
}

// write drops resends, gives LSNs, appends and syncs. commitMu is held.
func (j *Journal) write(group []item, thin bool) error {
	if j.log == nil {
		if err := j.reopen(); err != nil {
			return err
		}
	}
	j.work = j.work[:0]
	lsn := j.nextLSN
	records, size, dups := 0, int64(0), uint64(0)
	for i := range group {
		b := group[i].batch
		b.Conn += j.connBase
		if j.filter(&group[i]); group[i].err != nil {
			continue
		}
		for _, d := range b.Dropped {
			dups += d.Count
		}
		if b.LSNs() == 0 {
			continue
		}
		b.First = lsn
		lsn += b.LSNs()
		records += len(b.Records)
		size += b.Bytes()
		j.work = append(j.work, b)
	}
	if len(j.work) == 0 {
		return nil
	}
	// recordCost is more than a record's head takes.
	first, err := j.append(records, int(size)+recordCost*(records+len(j.work)), thin)
	if err != nil {
		j.forget(group)
		return err
	}
	for k, b := range j.work {
		j.addPoint(first+uint64(k), b)
	}
	j.committed = first + uint64(len(j.work)) - 1
	clear(j.work)
	j.nextLSN = lsn
	j.counters.last.Store(lsn - 1)
	j.counters.batches.Add(uint64(len(group)))
	j.counters.records.Add(uint64(records))
	j.counters.bytes.Add(uint64(size))
	j.counters.dups.Add(dups)
	return nil
}

// append writes the batches in j.work and syncs as the flush mode says.
func (j *Journal) append(records, size int, thin bool) (uint64, error) {
	first, err := j.log.AppendEncoded(len(j.work), size, func(i int, dst []byte) []byte { return appendEntry(dst, j.work[i]) })
	if err != nil {
		return 0, j.failed(err)
	}
	j.sinceSync += records
	switch j.opts.Flush {
	case FlushSync, FlushData:
		err = j.sync(thin)
	case FlushIncremental:
		if j.sinceSync >= j.opts.Freq {
			err = j.sync(thin)
		}
	case FlushIncrementalAsync:
		if j.sinceSync >= j.opts.Freq {
			j.sinceSync = 0
			j.syncDue.Set()
		}
	}
	if err != nil {
		return 0, j.failed(err)
	}
	return first, nil
}

func (j *Journal) sync(thin bool) error {
	start, sync := j.opts.Now(), j.log.Sync
	if thin {
		sync = j.log.SyncAside
	}
	err := sync()
	if j.opts.OnSync != nil {
		j.opts.OnSync(j.opts.Now().Sub(start))
	}
	j.counters.syncs.Add(1)
	j.sinceSync = 0
	return err
}

// failed closes a log that takes nothing any more; the next write opens it again.
func (j *Journal) failed(err error) error {
	if !errors.Is(err, seglog.ErrFailed) {
		return fmt.Errorf("write to the journal: %w", err)
	}
	j.opts.Logger.Error("the journal's disk failed twice; nothing is acknowledged until it can be opened again", "error", err)
	if cerr := j.log.Close(); cerr != nil {
		j.opts.Logger.Warn("closing the failed journal", "error", cerr)
	}
	j.log = nil
	j.retryAt = j.opts.Now().Add(retryEvery)
	return fmt.Errorf("%w: %w", ErrFailed, err)
}

// reopen opens the log after a failure. What it holds beyond what was handed on
// was refused to its sender, but is stored: it is handed on now, and a resend of
// it is recognised.
func (j *Journal) reopen() error {
	now := j.opts.Now()
	if wait := j.retryAt.Sub(now); wait > 0 && wait <= retryEvery {
		return fmt.Errorf("%w: next attempt in %v", ErrFailed, wait)
	}
	j.retryAt = now.Add(retryEvery)
	o := j.opts
	o.Known = *j.known.Load()
	// A folder that was deleted is not made anew: the store is gone with it.
	if _, err := o.FS.Size(o.Dir); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w: the store was deleted or moved: put it back, or start the collector again", ErrFailed, err)
	}
	log, rec, err := seglog.Open(seglogOptions(&o))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFailed, err)
	}
	j.log = log
	err = j.log.Sync()
	if err == nil {
		err = j.replay(j.committed+1, func(b *Batch) error {
			j.mu.Lock()
			j.makeReady(b)
			j.mu.Unlock()
			return nil
		})
	}
	if err != nil {
		if cerr := log.Close(); cerr != nil {
			err = errors.Join(err, cerr)
		}
		j.log = nil
		return fmt.Errorf("%w: %w", ErrFailed, err)
	}
	j.opts.Logger.Info("the journal takes records again", "recovery", rec)
	j.available.Set()
	return nil
}

// forget makes resend detection forget what was not committed.
func (j *Journal) forget(group []item) {
	for i := len(group) - 1; i >= 0; i-- {
		switch it := &group[i]; {
		case it.place != nil:
			j.senders.offsets.set(it.place, it.was)
		case it.err == nil:
			j.senders.forget(it.batch)
		}
	}
}

// filter takes what is stored already out of a batch: by its offsets, or by its numbers
// and bytes. commitMu is held.
func (j *Journal) filter(it *item) {
	b := it.batch
	if !b.hasOffsets() {
		j.senders.filter(b)
		return
	}
	it.place, it.was, it.err = j.senders.offsets.filter(b)
}

// addPoint remembers where an entry's LSN is, for Trim. commitMu is held.
func (j *Journal) addPoint(index uint64, b *Batch) {
	size := b.Bytes()
	j.sincePoint += size
	if n := len(j.points); n > 0 && index < j.points[n-1].index+pointEvery && j.sincePoint < pointBytes {
		return
	}
	j.points = append(j.points, point{b.First, index})
	j.sincePoint = size
}

// replay reads the entries from index on (0: all there are), in order, and
// prepares the next LSN. commitMu is held, or nobody else knows j yet.
func (j *Journal) replay(from uint64, fn func(*Batch) error) error {
	if from == 0 {
		from = j.log.First()
	}
	if from > j.log.Last() {
		j.committed = max(j.committed, j.log.Last())
		return nil
	}
	r, err := j.log.Reader(from)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // only read
	return readBatches(r, j.opts.Logger, func(index uint64, b *Batch) error {
		if b.Carried {
			j.addCarried(index, b)
			j.committed = index
			return nil
		}
		j.senders.observe(b)
		j.lastConn = max(j.lastConn, b.Conn)
		j.addPoint(index, b)
		j.committed = index
		j.nextLSN = max(j.nextLSN, b.Last()+1)
		j.counters.last.Store(j.nextLSN - 1)
		return fn(b)
	})
}

// next is what a seglog reader does.
type next interface {
	Next() (uint64, []byte, error)
}

// readBatches decodes entries until the end. Damaged places are logged and
// skipped: seglog has set them aside, and what follows them is still wanted.
func readBatches(r next, log hclog.Logger, fn func(uint64, *Batch) error) error {
	for {
		index, payload, err := r.Next()
		var corrupt *seglog.CorruptError
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.As(err, &corrupt):
			log.Error("the journal is damaged; reading on behind it", "error", err)
			continue
		case err != nil:
			return err
		}
		b, err := decodeEntry(append([]byte(nil), payload...))
		if errors.Is(err, ErrEntry) {
			log.Error("a journal entry cannot be read; reading on behind it", "entry", index, "error", err)
			continue
		}
		if err != nil {
			return fmt.Errorf("entry %d: %w", index, err)
		}
		if err := fn(index, b); err != nil {
			return err
		}
	}
}

// syncInBackground is incremental_async's other half.
func (j *Journal) syncInBackground() {
	defer j.wg.Done()
	for range j.syncDue {
		if err := j.Sync(); err != nil {
			j.opts.Logger.Error("syncing the journal", "error", err)
		}
	}
}

// Sync makes everything committed so far durable, whatever the flush mode. The
// store's writer calls it before it commits what it took: an LSN that the store
// knows must not be given again after a power loss.
func (j *Journal) Sync() error {
	j.commitMu.Lock()
	log := j.log
	j.commitMu.Unlock()
	if log == nil {
		return ErrFailed
	}
	if err := log.Sync(); err != nil {
		return fmt.Errorf("sync the journal: %w", err)
	}
	return nil
}

// Senders returns what changed in resend detection since the last call, to be
// kept in the store's next transaction. It covers every batch Take has returned.
func (j *Journal) Senders() []KV {
	j.commitMu.Lock()
	defer j.commitMu.Unlock()
	return j.senders.changes()
}

// Held says up to which offset, exclusive, the records of a sender's stream are stored
// or are known to come no more; 0: nothing is known of it. It waits for a commit that
// is under way.
func (j *Journal) Held(name string, id StreamID) (next uint64, sure bool) {
	j.commitMu.Lock()
	defer j.commitMu.Unlock()
	if j.senders == nil {
		return 0, false
	}
	return j.senders.offsets.known(name, id)
}
