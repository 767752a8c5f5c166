package journal

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/seglog"
	"github.com/auditfleet/auditfleet/pkg/wake"
)

// Kind is what the journal's segments say they are.
const Kind = "journal"

// MaxBatch is the most bytes of records a batch may hold.
const MaxBatch = 8 << 20

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

// Record is one audit record as a sender sent it.
type Record struct {
	Seq uint32 // the sender's sequence number; 0 when the protocol has none
	Raw []byte // without newline; never changed after Submit
}

// Batch is what one connection sent together.
type Batch struct {
	// Conn tells connections apart; unique while the process runs. The journal adds
	// to it what makes it unlike any that is in it from before.
	Conn   uint64
	Sender Sender
	// Managed says that records carry sequence numbers and are acknowledged, so
	// that they may be sent again.
	Managed bool
	// Deferred says that Submit neither waits nor commits: a Commit follows.
	Deferred bool
	// Heavy says that its connection sends more than most do: it has a part of the queue
	// only.
	Heavy bool
	// Carried says that the records were in the journal before, under the same LSNs:
	// they were written again, so that what was around them could be trimmed. Set by
	// the journal, as what follows Records.
	Carried  bool
	Received time.Time
	Records  []Record

	// First is the LSN of Records[0], the others follow. Set by the journal.
	First uint64
	// Dropped are the resends taken out of Records, counted by node=. Set by the
	// journal. A batch with no records and some dropped has an LSN of its own.
	Dropped []Dropped
}

// Dropped counts resends of one node ("" without node=).
type Dropped struct {
	Node  string
	Count uint64
}

// LSNs is how many LSNs the batch takes.
func (b *Batch) LSNs() uint64 {
	if len(b.Records) == 0 && len(b.Dropped) > 0 {
		return 1
	}
	return uint64(len(b.Records))
}

// Last is the batch's last LSN.
func (b *Batch) Last() uint64 { return b.First + b.LSNs() - 1 }

// Bytes is the size of the batch's records.
func (b *Batch) Bytes() int64 {
	n := int64(0)
	for i := range b.Records {
		n += int64(len(b.Records[i].Raw))
	}
	return n
}

// Flush says when a batch counts as stored. The words are auditd.conf's.
type Flush string

// The flush modes. Data is Sync here: there is no metadata to save.
const (
	FlushSync             Flush = "sync"
	FlushData             Flush = "data"
	FlushIncremental      Flush = "incremental"
	FlushIncrementalAsync Flush = "incremental_async"
	FlushNone             Flush = "none"
)

// Valid says whether f is one of the modes.
func (f Flush) Valid() bool {
	switch f {
	case FlushSync, FlushData, FlushIncremental, FlushIncrementalAsync, FlushNone:
		return true
	}
	return false
}

// Options of a journal.
type Options struct {
	FS     fsys.FS // fsys.OS when nil
	Dir    string
	Flush  Flush // FlushSync when empty
	Freq   int   // records between syncs of the incremental modes; 50 when 0
	Logger hclog.Logger
	Now    func() time.Time

	// ID is the store's, Known what Changed was last told of the segments; see
	// seglog.Options. Zero for a journal of which nobody keeps a list.
	ID      seglog.ID
	Known   seglog.Known
	Changed func(seglog.Known, []seglog.Damage) error

	// QueueBytes bounds what is submitted and not yet taken; 16 MiB when 0.
	QueueBytes int64
	// SegmentBytes is when a segment is full; seglog's default when 0.
	SegmentBytes int64
	// MaxSenders bounds the addresses remembered for resend detection; 20,000 when 0.
	MaxSenders int
	// OnSync, when set, is told how long each sync of the commit path took.
	OnSync func(time.Duration)
}

func (o *Options) defaults() error {
	if o.FS == nil {
		o.FS = fsys.OS
	}
	if o.Flush == "" {
		o.Flush = FlushSync
	}
	if !o.Flush.Valid() {
		return fmt.Errorf("flush = %q: it is one of sync, data, incremental, incremental_async, none", o.Flush)
	}
	if o.Freq <= 0 {
		o.Freq = 50
	}
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.QueueBytes <= 0 {
		o.QueueBytes = 16 << 20
	}
	if o.MaxSenders <= 0 {
		o.MaxSenders = 20000
	}
	return nil
}

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
}

// item is a batch on its way to the committer.
type item struct {
	batch *Batch
	done  func(error)
	cost  cost
}

// point maps an LSN to the seglog entry that holds it.
type point struct{ lsn, index uint64 }

// Journal is safe for use by several goroutines.
type Journal struct {
	opts  Options
	share share // of the queue
	// takeCost is the ready batches' cost that ends a taker's wait for more.
	takeCost int64

	mu        sync.Mutex // queue, ready, flags
	queue     []item
	leader    leader
	ready     []*Batch
	readyCost cost // held by ready
	takenCost cost // held by what the last Take returned
	taker     taker
	closed    bool
	started   bool
	queued    wake.Signal   // for the committer: queue or closed changed
	available wake.Signal   // for the taker: enough is ready, or stopped changed
	stop      chan struct{} // closed by Close: ends blocked Submits
	stopped   bool          // the committer is gone

	lastTake time.Time   // the taker's: when Take returned batches
	linger   *time.Timer // the taker's

	urgent bool   // what is queued is to be committed now
	spare  []item // the queue's other half; the leader's while there is one

	known atomic.Pointer[seglog.Known] // what Changed was last told

	commitMu  sync.Mutex // everything below
	log       *seglog.Log
	senders   *senders
	nextLSN   uint64
	committed uint64 // index of the last entry handed on
	points    []point
	// lastConn is the greatest connection that was replayed, and connBase what is
	// added to those of this process: a replay may go over several processes, and
	// must not take the connection of one for another's.
	lastConn, connBase uint64
	// sincePoint is bytes of records from the last point on.
	sincePoint int64
	carried    map[uint64]uint64 // LSN of a carried record → index of its entry
	sinceSync  int
	retryAt    time.Time
	work       []*Batch // the group's batches that have something to be written

	poked    atomic.Bool
	syncDue  wake.Signal // for syncInBackground
	wg       sync.WaitGroup
	closing  sync.Once
	closeErr error
	st       counters
}

type counters struct {
	batches, records, bytes, commits, syncs, dups, failed, carried atomic.Uint64
	last                                                           atomic.Uint64
	failing                                                        atomic.Bool
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
	j.stop = make(chan struct{})
	j.syncDue = wake.New()
	j.log = log
	j.carried = map[uint64]uint64{}
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
		return fmt.Errorf("start the journal: %w", err)
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
	j.st.last.Store(j.nextLSN - 1)
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
		j.commitMu.Lock()
		defer j.commitMu.Unlock()
		if j.log != nil {
			j.closeErr = j.log.Close()
			j.log = nil
		}
	})
	return j.closeErr
}

// Last is the LSN of the last record committed, and so not less than that of any
// record whose done was called with nil. Take has returned it, or will.
func (j *Journal) Last() uint64 { return j.st.last.Load() }

// Stats returns the present figures.
func (j *Journal) Stats() Stats {
	s := Stats{
		Batches: j.st.batches.Load(), Records: j.st.records.Load(), Bytes: j.st.bytes.Load(),
		Commits: j.st.commits.Load(), Syncs: j.st.syncs.Load(), Duplicates: j.st.dups.Load(),
		Failed: j.st.failed.Load(), Carried: j.st.carried.Load(), QueueBytes: j.share.held.Load(), LastLSN: j.st.last.Load(),
		Failing: j.st.failing.Load(),
	}
	j.commitMu.Lock()
	defer j.commitMu.Unlock()
	if j.log != nil {
		s.DiskBytes = j.log.Size()
	}
	if j.senders != nil {
		s.Forgotten, s.ResendBytes = j.senders.forgotten, int64(j.senders.bytes)
	}
	if len(j.points) > 0 {
		s.FirstLSN = j.points[0].lsn
	}
	return s
}
