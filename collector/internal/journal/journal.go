package journal

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/underway"
	"github.com/auditfleet/auditfleet/pkg/seglog"
	"github.com/auditfleet/auditfleet/pkg/wake"
)

// Kind is what the journal's segments say they are.
const Kind = "journal"

var (
	// ErrClosed is returned once the journal no longer takes batches.
	ErrClosed = errors.New("the journal is closed")
	// ErrBusy is returned by Submit for a deferred batch that would have to wait.
	ErrBusy = errors.New("the journal's queue is full")
	// ErrTooLarge is returned by Submit for a batch beyond MaxBatch.
	ErrTooLarge = errors.New("the batch is larger than the journal takes")
	// ErrFailed is given to done when the disk failed a write or sync even after
	// the journal had moved to a new segment. Each later commit tries to open the
	// journal again, at most once a second.
	ErrFailed = errors.New("the journal cannot write")
)

// Stats are counters and present sizes.
type Stats struct {
	Batches, Records, Bytes uint64 // committed
	Commits, Syncs          uint64
	Duplicates              uint64 // resends dropped
	Failed                  uint64 // batches answered with an error
	Carried                 uint64 // records of open events written again, so that the rest could be trimmed
	Forgotten               uint64 // senders' numberings and last records that resend detection had no memory for
	ResendBytes             int64  // memory of resend detection, at most ResendMemory
	QueueBytes              int64  // submitted and not yet taken
	DiskBytes               int64
	FirstLSN, LastLSN       uint64 // LastLSN is the last committed
	Failing                 bool   // the last commit failed
	// Hanging is for how long the write of a commit that is under way has not returned; 0: none is.
	Hanging time.Duration
}

// item is a batch on its way to the committer.
type item struct {
	batch *Batch
	done  func(error)
	cost  cost // what it holds of the queue's room

	// While its group is committed: its stream, up to where that was known before, and
	// why this batch alone is refused.
	place *place
	was   uint64
	err   error
}

// point maps an LSN to the seglog entry that holds it.
type point struct{ lsn, index uint64 }

// Journal is safe for use by several goroutines.
type Journal struct {
	opts     Options
	share    share                        // the queue's room; has locks of its own
	takeCost int64                        // see there
	short    atomic.Int32                 // goroutines that wait for room in the queue
	stop     chan struct{}                // closed by Stop: ends Submits that wait
	known    atomic.Pointer[seglog.Known] // what Options.Changed was last told
	poked    atomic.Bool                  // Take is to return at once
	wg       sync.WaitGroup
	closing  sync.Once
	closeErr error
	counters counters
	writing  underway.Call // write, under commitMu

	// A batch goes from queue to whoever leads, from there to ready, and from there to
	// the one that takes. Three signals wake who waits for a change of what mu guards.
	queued    wake.Signal // the committer: queue, urgent or closed
	available wake.Signal // the taker: ready or stopped
	syncDue   wake.Signal // syncInBackground, which has nothing under mu

	mu      sync.Mutex
	queue   []item   // guarded by mu; submitted, in order
	urgent  bool     // guarded by mu: queue is to be committed now
	spare   []item   // guarded by mu: queue's other half; nil while the leader has it
	leader  leader   // guarded by mu: who commits
	started bool     // guarded by mu
	closed  bool     // guarded by mu: nothing is submitted any more
	stopped bool     // guarded by mu: and nothing will be ready any more
	ready   []*Batch // guarded by mu; committed, in order
	// readyCost is of ready, takenCost of what the last Take returned: that stays in the
	// queue's room until the next one. Both are guarded by mu.
	readyCost, takenCost cost
	readySince           time.Time     // guarded by mu: when the first of ready came
	taker                taker         // guarded by mu: what the goroutine in Take waits for
	linger               time.Duration // guarded by mu: Take's
	lingerOver           *time.Timer   // wakes the taker that lingers

	// commitMu is held while a group is written, for as long as the disk takes. Who
	// commits holds it, and so do Start, Trim and Senders. All below is guarded by it.
	commitMu sync.Mutex
	log      *seglog.Log // nil while the disk has failed, and after Close
	senders  *senders    // nil before Start
	nextLSN  uint64
	// committed is the index of the last entry whose batch was handed on. What the log
	// holds beyond it after a failure was refused to its sender, and is handed on when
	// the log is open again.
	committed uint64
	// points map LSNs to entries, ascending: one for about pointBytes of records, of
	// which sincePoint have come since the last.
	points     []point
	sincePoint int64
	carried    map[uint64]uint64 // LSN of a carried record → index of its entry
	// lastConn is the greatest connection that was replayed, and connBase what is
	// added to those of this process: a replay may go over several processes, and
	// must not take the connection of one for another's.
	lastConn, connBase uint64
	sinceSync          int       // records
	retryAt            time.Time // before which a failed log is not opened again
	work               []*Batch  // the group's batches that have something to be written
}

type counters struct {
	batches, records, bytes, commits, syncs, dups, failed, carried atomic.Uint64
	last                                                           atomic.Uint64
	failing                                                        atomic.Bool
	// Sizes as they were when commitMu was held last: who asks waits for no disk. See noteSizes.
	firstLSN, forgotten   atomic.Uint64
	diskBytes, resendSize atomic.Int64
}

// Open recovers and locks the journal in o.Dir. Nothing is committed before Start.
func Open(o Options) (*Journal, *seglog.Recovery, error) {
	if err := o.defaults(); err != nil {
		return nil, nil, err
	}
	j := &Journal{}
	if tell := o.Changed; tell != nil {
		o.Changed = func(k seglog.Known, lost []seglog.Damage) error {
			err := tell(k, lost)
			if err == nil {
				j.known.Store(&k)
			}
			return err
		}
	}
	j.known.Store(&o.Known)
	log, rec, err := seglog.Open(seglogOptions(&o))
	if err != nil {
		return nil, nil, fmt.Errorf("open the journal: %w", err)
	}
	j.opts = o
	j.takeCost = min(takeCost, o.QueueBytes/4)
	j.share.init(o.QueueBytes)
	j.queued = wake.New()
	j.available = wake.New()
	j.lingerOver = time.AfterFunc(time.Hour, j.available.Set)
	j.lingerOver.Stop()
	j.stop = make(chan struct{})
	j.syncDue = wake.New()
	j.log = log
	j.carried = map[uint64]uint64{}
	j.noteSizes()
	return j, rec, nil
}

func seglogOptions(o *Options) seglog.Options {
	return seglog.Options{FS: o.FS, Dir: o.Dir, Kind: Kind, SegmentBytes: o.SegmentBytes, ID: o.ID, Known: o.Known, Changed: o.Changed,
		WatchRemoved: true}
}

// Resume is what the store remembers of the journal.
type Resume struct {
	Place
	Senders []KV // as Senders gave them
}

// Place is how far the store has what is in the journal.
type Place struct {
	LSN  uint64   // the greatest LSN the store knows
	Open []uint64 // up to it, those the store does not have; ascending
}

// Start replays the journal: fn gets each batch in order of LSN, stored or not, may
// keep it and may call the other methods. Of carried records it gets those that are
// in r.Open and nowhere else, first. Then commits begin. An error of fn ends Start.
// Batches submitted before are queued.
func (j *Journal) Start(r Resume, fn func(*Batch) error) error {
	j.commitMu.Lock()
	defer j.commitMu.Unlock()
	if j.started {
		return errors.New("the journal was started before")
	}
	s, err := loadSenders(r.Senders, j.opts.MaxSenders)
	if err != nil {
		j.opts.Logger.Error("part of the state of resend detection cannot be read: records sent again after a reconnect may be stored twice", "error", err)
	}
	j.senders, j.nextLSN = s, r.LSN+1
	unlocked := func(b *Batch) error {
		// fn may call Sync, Senders and Trim.
		j.commitMu.Unlock()
		defer j.commitMu.Lock()
		return fn(b)
	}
	err = carriedFirst(j.opts.Logger, func() (entries, error) { return j.log.Reader(0) }, r.Place, unlocked)
	if err == nil {
		err = j.replay(0, unlocked)
	}
	if err != nil {
		return fmt.Errorf("replay the journal: %w", err)
	}
	s.forgetConnections()
	j.connBase = j.lastConn
	j.counters.last.Store(j.nextLSN - 1)
	j.noteSizes()
	j.mu.Lock()
	j.started = true
	j.mu.Unlock()
	j.wg.Add(1)
	go j.run()
	if j.opts.Flush == FlushIncrementalAsync {
		j.wg.Add(1)
		go j.syncInBackground()
	}
	return nil
}

// Stop ends the taking of batches: what was submitted is still committed, done
// called, and handed to Take. Submits that are blocked return ErrClosed.
func (j *Journal) Stop() {
	j.mu.Lock()
	was := j.closed
	j.closed = true
	if !j.started {
		j.stopped = true
	}
	j.mu.Unlock()
	if !was {
		close(j.stop)
	}
	j.queued.Set()
	j.available.Set()
}

// Close stops, waits for the committer, syncs and lets go of the folder.
func (j *Journal) Close() error {
	j.closing.Do(func() {
		j.Stop()
		j.wg.Wait()
		j.lingerOver.Stop()
		j.commitMu.Lock()
		defer j.commitMu.Unlock()
		if j.log != nil {
			j.closeErr = j.log.Close()
			j.log = nil
			j.noteSizes()
		}
	})
	return j.closeErr
}

// Last is the LSN of the last record committed, and so not less than that of any
// record whose done was called with nil. Take has returned it, or will.
func (j *Journal) Last() uint64 { return j.counters.last.Load() }

// Stats returns the present figures. It waits for no disk.
func (j *Journal) Stats() Stats {
	s := Stats{
		Batches: j.counters.batches.Load(), Records: j.counters.records.Load(), Bytes: j.counters.bytes.Load(),
		Commits: j.counters.commits.Load(), Syncs: j.counters.syncs.Load(), Duplicates: j.counters.dups.Load(),
		Failed: j.counters.failed.Load(), Carried: j.counters.carried.Load(), QueueBytes: j.share.held.Load(), LastLSN: j.counters.last.Load(),
		Failing: j.counters.failing.Load(),
	}
	s.DiskBytes, s.FirstLSN = j.counters.diskBytes.Load(), j.counters.firstLSN.Load()
	s.Forgotten, s.ResendBytes = j.counters.forgotten.Load(), j.counters.resendSize.Load()
	s.Hanging = j.writing.For(time.Now())
	return s
}

// noteSizes has Stats see what a commit, a replay or Trim has changed. commitMu is held.
func (j *Journal) noteSizes() {
	c := &j.counters
	size, first := int64(0), uint64(0)
	if j.log != nil {
		size = j.log.Size()
	}
	if len(j.points) > 0 {
		first = j.points[0].lsn
	}
	c.diskBytes.Store(size)
	c.firstLSN.Store(first)
	if j.senders != nil {
		c.forgotten.Store(j.senders.forgotten + j.senders.offsets.forgotten)
		c.resendSize.Store(int64(j.senders.bytes))
	}
}
