// Package spool is the forwarder's durable queue: the records that wait to be
// acknowledged by a server. It is bounded in bytes, synced at least once a
// SyncInterval and at Close, and after a crash resumes at the first record not
// acknowledged. It builds on pkg/seglog; forwarder's agent, cli and doctor may import it
// (ship sees it through an interface of its own).
//
// What holds:
//   - A Reader returns an appended record until it is acknowledged, dropped because
//     the spool was full (counted), or lost in a power failure before it was synced.
//   - A record has the same index and the same sequence id for life. A sequence id
//     is not used again by another record while a server could take it for a
//     resend, also when a crash lost records that had been sent but not synced.
//   - A mark (see Append) survives a crash if and only if its records do.
//   - When another program removes or renames the folder of the open spool, or files in it,
//     the spool notices within a SyncInterval and restores them from the files it holds open.
//   - When a crash loses acknowledgements, records are sent again: at most those
//     acknowledged in the last SyncInterval, and never more than MaxResend plus what
//     one call of Ack covered.
//
// Concurrency: all methods of Spool may be called at once; a Reader belongs to one
// goroutine. Lock order: appending, persisting, mu. appending and persisting are held
// during disk I/O, mu never is: Ack, First, Left and a Reader that reads from memory
// wait for no disk because of mu.
package spool

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/pkg/seglog"
	"github.com/auditfleet/auditfleet/pkg/wake"
)

// Kind is the kind of log (seglog.Options.Kind) that the header of every segment of a spool names.
const Kind = "spool"

// MaxResend bounds how many records acknowledged before a crash are sent again
// after it. A collector recognises resends among the last 8192 records of a
// stream: this and the largest window fit in there together.
const MaxResend = 4096

const (
	// DefaultMaxBytes is Options.MaxBytes when that is 0.
	DefaultMaxBytes = 1 << 30
	minMaxBytes     = 1 << 20
	// After every noteEvery acknowledgements the state file is written but not synced:
	// that write survives a SIGKILL of the process, though not a power failure.
	noteEvery = 512
	// When more than syncBytes bytes are not synced, Append wakes the syncer early.
	syncBytes = 1 << 20
	// MaxUnsynced bounds the bytes that are not synced, which are in memory until they are: at
	// more, Append itself waits for a sync.
	MaxUnsynced = 4 << 20
)

// Spool is an open spool. The caller must close it.
//
// Why Append, Ack and the Reader may run at once:
//   - appending serializes all writers, so the log, the hot tail and last grow in the
//     same order. last moves, under mu, only after the log has taken the entries: a
//     Reader never looks for an entry that the operating system does not have.
//   - An entry's bytes never change once it is made (see entry). The hot tail shares
//     them with Readers; dropping an entry from the hot tail only drops a reference.
//   - acked never falls, and never exceeds last. It may run ahead of the state file:
//     noted is what the file says, persisted what is on stable storage, and
//     persisted <= noted <= acked. A crash puts acked back to one of the two, and the
//     records between are sent again, with the same ids.
//   - A segment is freed only after the state file says that its records are done with
//     (freeAcked). So what Open finds neither acknowledged nor in the log was lost.
type Spool struct {
	opt Options
	log *seglog.Log
	hlg hclog.Logger

	kick      wake.Signal   // wakes the syncer before its next tick
	stop      chan struct{} // closed by Close
	joined    chan struct{} // closed when the syncer has ended
	wanted    wake.Signal   // wakes the syncer: a Reader waits for records to be synced
	ready     wake.Signal   // set when records were appended, or synced
	over      []span        // records that Readers pass over, see passOver; not changed after Open
	epochs    epochs        // ascending by from; after Open changed by Renew only
	noteEvery uint64        // the constant noteEvery; tests set another

	appending sync.Mutex // held by Append: the order in memory is the order on disk
	closed    bool       // guarded by appending
	entries   [][]byte   // guarded by appending; the entries of one write, reused
	arena     []byte     // guarded by appending; the memory in which new entries are made
	mark      []byte     // guarded by appending; the mark of the last Append
	behind    [][]byte   // guarded by appending; what AfterMark returns

	mu     sync.Mutex // guards the fields down to oldest
	hot    hotTail
	last   uint64 // index of the last record; written with appending held, too
	again  bool   // the source is read again after a crash, from a mark
	marks  marks
	acked  uint64   // this record and all before it are acknowledged or dropped
	gone   uint64   // missing records up to this index were counted, or need not be
	holes  []span   // records that were not synced when the power failed: their loss is not counted
	oldest struct { // the append time of one record, cached for Stats
		index uint64
		ms    int64
	}

	persisting sync.Mutex    // held while the state file is written
	state      *stateFile    // guarded by persisting
	persisted  atomic.Uint64 // acked as the state file has it on stable storage; stored with persisting held
	noted      atomic.Uint64 // acked as the state file has it, synced or not; stored with persisting held

	unsynced atomic.Int64 // bytes appended since the last sync began; only a hint when to sync early
	dropped  atomic.Uint64
	refused  atomic.Uint64
	damaged  atomic.Uint64
	syncErrs atomic.Uint64
	home     home
}

// Open opens or creates the spool in the folder o.Dir and starts its syncer. The
// Recovery says what damage and losses the log found. Errors: ErrState and
// ErrStateVersion for the state file, and those of seglog.Open. A failed Open has
// released the folder.
func Open(o Options) (_ *Spool, _ *seglog.Recovery, err error) {
	if o, err = o.withDefaults(); err != nil {
		return nil, nil, err
	}
	var (
		log   *seglog.Log
		rec   *seglog.Recovery
		state *stateFile
		old   content
	)
	defer func() {
		if err != nil {
			err = errors.Join(err, state.close())
			if log != nil {
				err = errors.Join(err, log.Close())
			}
		}
	}()
	log, rec, err = seglog.Open(seglog.Options{
		FS: o.FS, Dir: o.Dir, Kind: Kind, SegmentBytes: o.SegmentBytes, MaxUnsynced: MaxUnsynced, Hold: true,
		Durable: func() (_ uint64, err error) {
			state, old, err = openState(o.FS, filepath.Join(o.Dir, stateName))
			return old.last, err
		},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("open spool: %w", err)
	}
	known := len(old.epochs) > 0
	if !known && log.Last() > 0 {
		o.Logger.Warn("spool state is missing or damaged: everything in the spool is sent again", "dir", o.Dir)
	}
	s := &Spool{
		opt: o, log: log, hlg: o.Logger, state: state,
		kick: wake.New(), wanted: wake.New(), stop: make(chan struct{}), joined: make(chan struct{}),
		ready: wake.New(),
		last:  log.Last(), noteEvery: noteEvery,
	}
	before := s.last
	s.holes = unsyncedHoles(rec)
	// What the state says may be ahead of the log (records sent, acknowledged and
	// then lost unsynced) or behind it (segments freed since).
	s.acked = min(max(old.acked, log.First()-1), s.last)
	s.hot.first = s.last + 1
	// From here on ids jump: the last records before a crash may have been sent
	// and then lost, and their indexes come again.
	list, err := nextEpochs(old.epochs, s.acked, s.last+1)
	if err != nil {
		return nil, nil, fmt.Errorf("open spool: %w", err)
	}
	s.epochs.Store(&list)
	if err = state.write(s.content(), true); err != nil {
		return nil, nil, fmt.Errorf("open spool: %w", err)
	}
	s.persisted.Store(s.acked)
	s.noted.Store(s.acked)
	if err = s.recoverMark(rec); err != nil {
		return nil, nil, fmt.Errorf("open spool: %w", err)
	}
	if known {
		s.missing(old, before)
	}
	if s.last > s.acked {
		s.ready.Set()
	}
	go s.syncer()
	return s, rec, nil
}

// missing counts, as damaged, the records that the state file knows of and the log lacks
// at its front or its end: a segment was lost or cut. last is the log's last index. Gaps
// in the middle are counted when a Reader meets them. With a mark nothing counts as
// lost: the source reads again from before the gap. Only Open calls it.
func (s *Spool) missing(old content, last uint64) {
	if len(s.mark) > 0 {
		s.gone = s.last
		return
	}
	if first := s.log.First(); first > old.acked+1 {
		s.damaged.Add(min(first-1, max(last, old.last)) - old.acked)
	}
	if from := max(last, old.acked); old.last > from {
		s.damaged.Add(old.last - from)
	}
}

// missed counts the records from to to, which could not be read, as damaged, less those
// that are acknowledged, dropped or counted already, and those in holes.
func (s *Spool) missed(from, to uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if from = max(from, s.acked+1, s.gone+1); from > to {
		return
	}
	n := to - from + 1
	for _, h := range s.holes {
		if a, b := max(from, h.from), min(to, h.to); a <= b {
			n -= b - a + 1
		}
	}
	s.damaged.Add(n)
	s.gone = to
}

// unsyncedHoles returns the ranges of records that were not synced when the power failed,
// before this start and before earlier ones.
func unsyncedHoles(rec *seglog.Recovery) (holes []span) {
	for _, u := range rec.Unsynced {
		holes = append(holes, span{u.First, u.Last})
	}
	for _, g := range rec.Gaps {
		if g.Unsynced {
			holes = append(holes, span{g.First, g.Last})
		}
	}
	return slices.DeleteFunc(holes, func(x span) bool { return x.from > x.to })
}

// content returns what the state file must say now. It does not mention records that are
// not synced: a power failure may take them, and the next Open must not count them as
// lost. The caller holds mu, or is the only one to know s.
func (s *Spool) content() content {
	last := min(s.last, s.log.Synced())
	if last < s.acked {
		last = 0 // sent and acknowledged before they were synced
	}
	return content{acked: s.acked, last: last, epochs: append([]epoch(nil), pruneEpochs(*s.epochs.Load(), s.acked)...)}
}

// Append adds records, lines without newline, all of them or none: when it returns, the
// operating system has them (they survive a SIGKILL), and they are durable within a
// SyncInterval. It copies lines and mark. After ErrFull, ErrTooLong and ErrClosed no
// record of the call is kept; another error says why the disk failed. Append waits for
// the disk when more than MaxUnsynced bytes are not synced yet.
//
// mark serves a source that can be read again after a crash: it says where the source
// continues behind the last of lines. Its records can be sent once they are synced, which is done at once then. It is stored in that line's entry, so a crash
// keeps both or neither. It has at most MaxMark bytes; nil keeps the mark of the last Append.
func (s *Spool) Append(mark []byte, lines ...[]byte) error {
	if len(lines) == 0 {
		return nil
	}
	if len(mark) > MaxMark {
		return fmt.Errorf("append with a mark of %d bytes, at most %d: %w", len(mark), MaxMark, ErrTooLong)
	}
	size := 1 + len(mark)
	for _, l := range lines {
		if len(l) > MaxRecord {
			s.refused.Add(uint64(len(lines)))
			return fmt.Errorf("append a record of %d bytes, at most %d: %w", len(l), MaxRecord, ErrTooLong)
		}
		size += entrySize(len(l))
	}
	s.appending.Lock()
	defer s.appending.Unlock()
	if s.closed {
		return ErrClosed
	}
	if err := s.makeRoom(size); err != nil {
		s.refused.Add(uint64(len(lines)))
		return err
	}
	ms := s.opt.Now().UnixMilli()
	s.entries = s.entries[:0]
	if mark == nil {
		mark = s.mark
	}
	for i, l := range lines {
		if i < len(lines)-1 {
			s.entries = append(s.entries, s.entry(ms, nil, l))
		} else {
			s.entries = append(s.entries, s.entry(ms, mark, l))
		}
	}
	if err := s.write(len(mark) > 0); err != nil {
		s.refused.Add(uint64(len(lines)))
		return err
	}
	s.mark, s.behind = append(s.mark[:0], mark...), nil
	s.marked()
	if s.unsynced.Add(int64(size)) > syncBytes {
		s.kick.Set()
	}
	return nil
}

// entry makes a record's entry in the arena. The caller holds appending. Nobody writes to
// the entry's bytes again: the hot tail and Readers keep slices of them. The arena is
// therefore never reused, only replaced when it is full; the garbage collector frees it
// with its last entry.
func (s *Spool) entry(ms int64, mark, line []byte) []byte {
	need := entryHead + 1 + len(mark) + len(line)
	if cap(s.arena)-len(s.arena) < need {
		s.arena = make([]byte, 0, max(64<<10, need))
	}
	from := len(s.arena)
	s.arena = appendEntry(s.arena, ms, mark, line)
	return s.arena[from:len(s.arena):len(s.arena)]
}

// write appends s.entries to the log and then to the hot tail, and moves last. With
// DropOldest it frees old segments while the disk has no room. again says that the source can be read
// again. The caller holds appending.
func (s *Spool) write(again bool) error {
	first, err := s.log.Append(s.entries...)
	for errors.Is(err, seglog.ErrNoSpace) && s.opt.Full == DropOldest && s.dropOldest() {
		first, err = s.log.Append(s.entries...)
	}
	if errors.Is(err, seglog.ErrNoSpace) {
		return fmt.Errorf("append to spool: %w: %w", ErrFull, err)
	}
	if err != nil {
		return fmt.Errorf("append to spool: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hot.next() != first {
		s.hot.reset(first) // the log skipped indexes; it doesn't today
	}
	for _, e := range s.entries {
		s.hot.push(e)
	}
	s.hot.shrink(s.opt.HotBytes)
	s.last, s.again = first+uint64(len(s.entries))-1, again
	s.ready.Set()
	clear(s.entries)
	return nil
}

// makeRoom frees segments until size more bytes fit into MaxBytes: first those whose
// records are acknowledged, then, with DropOldest, the oldest. The caller holds appending.
func (s *Spool) makeRoom(size int) error {
	for s.log.Size()+int64(size) > s.opt.MaxBytes {
		// The syncer frees, too, and may have done so since Size was asked.
		if s.freeAcked() || s.log.Size()+int64(size) <= s.opt.MaxBytes || s.log.Boundary() <= s.First() && s.releaseMark() {
			continue
		}
		if s.opt.Full == RefuseInput || !s.dropOldest() {
			return fmt.Errorf("append %d bytes: %w: %d of %d bytes used", size, ErrFull, s.log.Size(), s.opt.MaxBytes)
		}
	}
	return nil
}

// freeAcked deletes the segments whose records are all acknowledged, but not that of the last durable mark or what
// comes behind it, and reports whether there were any. The state file must say so first: the next Open counts records that
// are missing and not acknowledged as damaged. So it deletes only up to noted, and
// writes the state file when the oldest segment lies beyond that. Append, the syncer
// and Sync may call it at once.
func (s *Spool) freeAcked() bool {
	acked := s.noted.Load()
	b := s.log.Boundary()
	held := s.held()
	if b == 0 || b > held {
		return false
	}
	if b > acked+1 {
		s.mu.Lock()
		done := b <= s.acked+1
		s.mu.Unlock()
		if !done || s.persist() != nil {
			return false
		}
		acked = s.noted.Load()
	}
	before := s.log.First()
	if err := s.log.TruncateFront(min(acked+1, held)); err != nil {
		s.hlg.Warn("free spool space", "error", err)
	}
	return s.log.First() != before
}

// dropOldest gives up the records of the oldest segment, counts those that were not
// acknowledged as dropped, and deletes the segment. It reports false when it freed
// nothing: there is only one segment, or it can't be deleted. The caller holds appending.
// It writes the state file only when nobody else does, as Append must not wait for a
// slow sync here.
func (s *Spool) dropOldest() bool {
	b := s.log.Boundary()
	if b == 0 || b > s.log.Last() {
		return false
	}
	for s.releaseMark() {
	}
	s.mu.Lock()
	if b-1 > s.acked {
		s.dropped.Add(b - 1 - s.acked)
		s.acked = b - 1
		s.hot.drop(b)
	}
	s.mu.Unlock()
	if s.persisting.TryLock() {
		if err := s.note(false); err != nil {
			s.hlg.Warn("note what was dropped", "error", err)
		}
		s.persisting.Unlock()
	}
	if err := s.log.TruncateFront(b); err != nil {
		s.hlg.Warn("free spool space", "error", err)
	}
	return s.log.First() >= b
}

// Ack acknowledges the record index and all before it; no Reader returns them again. An
// index beyond the last record means the last one; one that is acknowledged already
// changes nothing. Mostly it only writes memory. It writes the state file after every
// noteEvery acknowledgements, and syncs it, waiting for the disk, once MaxResend of
// them are not durable. An error means that the state file could not be written: the
// acknowledgement counts, but a crash may lose it.
func (s *Spool) Ack(index uint64) error {
	s.mu.Lock()
	index = min(index, s.last)
	if index <= s.acked {
		s.mu.Unlock()
		return nil
	}
	s.acked = index
	s.hot.drop(index + 1)
	s.mu.Unlock()
	behind := s.unsaved(index)
	if b := s.log.Boundary(); behind > MaxResend/2 || b != 0 && b <= index+1 {
		s.kick.Set()
	}
	if behind >= MaxResend {
		s.persisting.Lock()
		defer s.persisting.Unlock()
		if s.unsaved(index) < MaxResend {
			return nil // somebody else has done it meanwhile: a sync more would be one for nothing
		}
		return s.note(true)
	}
	if noted := s.noted.Load(); noted < index && index-noted >= s.noteEvery && s.persisting.TryLock() {
		defer s.persisting.Unlock()
		return s.note(false)
	}
	return nil
}

// unsaved returns how many acknowledgements up to index are not durable. Others may have made more durable meanwhile.
func (s *Spool) unsaved(index uint64) uint64 {
	if persisted := s.persisted.Load(); persisted < index {
		return index - persisted
	}
	return 0
}

// persist writes acked to the state file and syncs it.
func (s *Spool) persist() error {
	s.persisting.Lock()
	defer s.persisting.Unlock()
	return s.note(true)
}

// note writes acked to the state file, with a sync if durable, unless the file says so
// already. The caller holds persisting: so the file's acked never falls, though each
// write reads acked anew.
func (s *Spool) note(durable bool) error {
	s.mu.Lock()
	c := s.content()
	s.mu.Unlock()
	if c.acked == s.persisted.Load() || !durable && c.acked == s.noted.Load() {
		return nil
	}
	if s.opt.BeforeAcked != nil {
		s.opt.BeforeAcked()
	}
	if err := s.state.write(c, durable); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	s.noted.Store(c.acked)
	if durable {
		s.persisted.Store(c.acked)
	}
	return nil
}

// Seq returns a record's sequence id on the wire (FORMAT.md). It is the same for the
// record's whole life. Any goroutine may call it.
func (s *Spool) Seq(index uint64) uint32 {
	return seqOf(*s.epochs.Load(), index)
}

// First returns the index of the first record that is not acknowledged; one more than the
// last record's index when all are.
func (s *Spool) First() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acked + 1
}

// Left returns how many records are not acknowledged.
func (s *Spool) Left() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last - s.acked
}

// Close ends the syncer, syncs the log, writes acked to the state file, and releases the
// folder. A second call returns nil.
func (s *Spool) Close() error {
	s.appending.Lock()
	if s.closed {
		s.appending.Unlock()
		return nil
	}
	s.closed = true
	s.appending.Unlock()
	close(s.stop)
	<-s.joined
	s.keepHome()
	s.sayGone()
	s.persisting.Lock()
	defer s.persisting.Unlock()
	err := s.log.Close()
	// Behind the log: what it says of the last record must be there.
	s.mu.Lock()
	c := s.content()
	s.mu.Unlock()
	return errors.Join(err, s.state.write(c, true), s.state.close())
}
