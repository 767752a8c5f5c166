// Package spool is the forwarder's durable queue: the records that wait to be
// acknowledged by a server. It is bounded in bytes, synced at least once a
// SyncInterval and at Close, and after a crash resumes at the first record not
// acknowledged. It builds on pkg/seglog; forwarder's agent, cli and doctor may import it
// (ship sees it through an interface of its own).
//
// What holds:
//   - A record appended is read until it is acknowledged, dropped because the
//     spool was full (counted), or lost with a power failure before it was synced.
//   - A record has the same index and the same sequence id for life. A sequence id
//     is not used again by another record while a server could take it for a
//     resend, also when a crash lost records that had been sent but not synced.
//   - A mark (see Append) is there after a crash if and only if its records are.
//   - What somebody removes or renames under the open spool (the folder, files in it) is
//     noticed a SyncInterval later at most, and put back from the files that are open.
//   - Acknowledgements lost in a crash mean that records are sent again: at most
//     those acknowledged in the last SyncInterval, and never more than MaxResend
//     (and what one Ack said at once).
//
// Concurrency: all methods of Spool may be called at once; a Reader is for one
// goroutine. Lock order: appending, mu, persisting. mu is never held during disk
// I/O; appending is, and persisting.
package spool

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/seglog"
	"github.com/auditfleet/auditfleet/pkg/wake"
)

// Kind is what the spool's segments say they are.
const Kind = "spool"

// MaxResend bounds how many records acknowledged before a crash are sent again
// after it. A collector recognises resends among the last 8192 records of a
// stream: this and the largest window fit in there together.
const MaxResend = 4096

const (
	// DefaultMaxBytes is Options.MaxBytes when that is 0.
	DefaultMaxBytes = 1 << 30
	minMaxBytes     = 1 << 20
	// noteEvery so many acknowledgements the state file is written, not synced:
	// that is what SIGKILL leaves.
	noteEvery = 512
	// syncBytes written and not synced bring the next sync forward.
	syncBytes = 1 << 20
	// maxUnsynced makes an Append wait for the disk.
	maxUnsynced = 8 << 20
)

// FullPolicy says what gives way when the spool is full.
type FullPolicy uint8

const (
	// DropOldest drops the oldest records, a segment at a time.
	DropOldest FullPolicy = iota
	// RefuseInput makes Append return ErrFull.
	RefuseInput
)

const (
	// MaxRecord is the longest record Append takes.
	MaxRecord = 1 << 20
	// MaxMark is the longest mark Append takes.
	MaxMark = 255
)

var (
	// ErrFull is returned by Append when the spool, or the disk, is full and
	// nothing may or can be dropped. The spool stays usable.
	ErrFull = errors.New("spool is full")
	// ErrTooLong is returned for a record over MaxRecord or a mark over MaxMark.
	ErrTooLong = errors.New("record too long for the spool")
	// ErrClosed is returned by every use after Close.
	ErrClosed = errors.New("spool is closed")
)

// Options of Open. Dir is needed.
type Options struct {
	FS  fsys.FS // nil: the operating system's
	Dir string
	// MaxBytes bounds the segments' size on disk, 1 GiB by default, at least
	// 1 MiB. One segment's size may be set aside beyond it.
	MaxBytes int64
	// SegmentBytes is the unit in which space is freed: by default a sixteenth of
	// MaxBytes, at most 16 MiB; at most a quarter of MaxBytes.
	SegmentBytes int64
	Full         FullPolicy
	// SyncInterval is how long a record may wait for its sync; 1 s by default.
	SyncInterval time.Duration
	// HotBytes of the newest records are kept in memory for the reader, 2 MiB by
	// default.
	HotBytes int
	Now      func() time.Time // nil: time.Now
	Logger   hclog.Logger     // nil: none
}

func (o Options) withDefaults() (Options, error) {
	if o.Dir == "" {
		return o, errors.New("spool: no folder")
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.MaxBytes < minMaxBytes {
		return o, fmt.Errorf("spool: %d bytes: want at least %d", o.MaxBytes, int64(minMaxBytes))
	}
	if o.Full > RefuseInput {
		return o, fmt.Errorf("spool: unknown policy %d", o.Full)
	}
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = min(o.MaxBytes/16, 16<<20)
	}
	o.SegmentBytes = min(o.SegmentBytes, o.MaxBytes/4)
	if o.SyncInterval <= 0 {
		o.SyncInterval = time.Second
	}
	if o.HotBytes <= 0 {
		o.HotBytes = 2 << 20
	}
	if o.FS == nil {
		o.FS = fsys.OS
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	return o, nil
}

// Spool is an open spool. It must be closed.
type Spool struct {
	opt Options
	log *seglog.Log
	hlg hclog.Logger

	kick      wake.Signal   // the syncer is to look now
	stop      chan struct{} // closed by Close
	joined    chan struct{} // closed when the syncer has ended
	ready     wake.Signal   // records came
	epochs    []epoch       // never changed
	noteEvery uint64        // noteEvery, but in tests

	appending sync.Mutex // held by Append: order in memory is order on disk
	closed    bool       // guarded by appending
	entries   [][]byte   // guarded by appending; scratch
	arena     []byte     // guarded by appending; where entries are made
	mark      []byte     // guarded by appending; Append's last
	behind    [][]byte   // guarded by appending; see AfterMark

	mu     sync.Mutex // guards all below
	hot    hotTail
	last   uint64   // index of the last record
	acked  uint64   // it and all before are done with
	gone   uint64   // records up to here that are missing were counted, or need not be
	holes  []span   // records that were not synced when the power went: no loss is counted for them
	oldest struct { // append time of a record, remembered for Stats
		index uint64
		ms    int64
	}

	persisting sync.Mutex    // held while the state file is written
	state      *stateFile    // guarded by persisting
	persisted  atomic.Uint64 // acknowledgements that are durable
	noted      atomic.Uint64 // acknowledgements that are written

	unsynced atomic.Int64 // bytes appended since the last sync began
	dropped  atomic.Uint64
	refused  atomic.Uint64
	damaged  atomic.Uint64
	syncErrs atomic.Uint64
	home     home
}

// Open opens or creates the spool in a folder and starts its syncer. Recovery
// says what the log found.
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
		FS: o.FS, Dir: o.Dir, Kind: Kind, SegmentBytes: o.SegmentBytes, MaxUnsynced: maxUnsynced, Hold: true,
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
		kick: wake.New(), stop: make(chan struct{}), joined: make(chan struct{}),
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
	if s.epochs, err = nextEpochs(old.epochs, s.acked, s.last+1); err != nil {
		return nil, nil, fmt.Errorf("open spool: %w", err)
	}
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

// missing counts the records that the state speaks of, and the log, whose last
// index is given, has at neither end: a segment was lost or cut. Gaps between are
// counted as they are read. Where there are marks nothing is lost: the source goes
// on from before the gap.
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

// missed counts records that are not there: neither acknowledged, nor dropped, nor
// counted before.
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

// unsyncedHoles are the places where a power loss took records that were not synced:
// now, and at earlier starts.
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

// content is what the state file is to say now. Of records that are not synced it says
// nothing: a power loss may take them, and then nothing is missing. Called with mu, or
// before anybody else knows of s.
func (s *Spool) content() content {
	last := min(s.last, s.log.Synced())
	if last < s.acked {
		last = 0 // sent and acknowledged before they were synced
	}
	return content{acked: s.acked, last: last, epochs: append([]epoch(nil), pruneEpochs(s.epochs, s.acked)...)}
}

// Append adds records, lines without newline, all or none: they are in the
// operating system's hands when it returns, and durable a SyncInterval later at
// most. The lines are copied.
//
// mark is for records from a source that is read again from some place after a crash:
// it says where the source goes on behind the last of lines, and is kept with that
// line, so that both are there or neither. It has at most MaxMark bytes; nil leaves the
// last one as it is.
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
	if err := s.write(); err != nil {
		s.refused.Add(uint64(len(lines)))
		return err
	}
	s.mark, s.behind = append(s.mark[:0], mark...), nil
	if s.unsynced.Add(int64(size)) > syncBytes {
		s.kick.Set()
	}
	return nil
}

// entry makes a record's entry in the arena. It is never written to again:
// readers keep it.
func (s *Spool) entry(ms int64, mark, line []byte) []byte {
	need := entryHead + 1 + len(mark) + len(line)
	if cap(s.arena)-len(s.arena) < need {
		s.arena = make([]byte, 0, max(64<<10, need))
	}
	from := len(s.arena)
	s.arena = appendEntry(s.arena, ms, mark, line)
	return s.arena[from:len(s.arena):len(s.arena)]
}

// write hands entries to the log, and to the hot tail. Called with appending.
func (s *Spool) write() error {
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
	s.last = first + uint64(len(s.entries)) - 1
	s.ready.Set()
	clear(s.entries)
	return nil
}

// makeRoom frees segments until size more bytes fit. Called with appending.
func (s *Spool) makeRoom(size int) error {
	for s.log.Size()+int64(size) > s.opt.MaxBytes {
		if s.freeAcked() {
			continue
		}
		if s.opt.Full == RefuseInput || !s.dropOldest() {
			return fmt.Errorf("append %d bytes: %w: %d of %d bytes used", size, ErrFull, s.log.Size(), s.opt.MaxBytes)
		}
	}
	return nil
}

// freeAcked frees the segments that are done with and reports whether there were
// any. The state says so before: what is missing at the next Open and was not
// acknowledged then counts as damage.
func (s *Spool) freeAcked() bool {
	acked := s.noted.Load()
	b := s.log.Boundary()
	if b == 0 || b > s.log.Last() {
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
	// The last record's segment stays, for its mark.
	if err := s.log.TruncateFront(min(acked+1, s.log.Last())); err != nil {
		s.hlg.Warn("free spool space", "error", err)
	}
	return s.log.First() != before
}

// dropOldest gives up the records of the oldest segment. It reports false when
// there is only one segment.
func (s *Spool) dropOldest() bool {
	b := s.log.Boundary()
	if b == 0 || b > s.log.Last() {
		return false
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

// Ack says that the record index and all before it are done with.
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
	behind := index - s.persisted.Load()
	if b := s.log.Boundary(); behind > MaxResend/2 || b != 0 && b <= index+1 {
		s.kick.Set()
	}
	if behind >= MaxResend {
		return s.persist()
	}
	if index-s.noted.Load() >= s.noteEvery && s.persisting.TryLock() {
		defer s.persisting.Unlock()
		return s.note(false)
	}
	return nil
}

// persist makes durable how far the acknowledgements are.
func (s *Spool) persist() error {
	s.persisting.Lock()
	defer s.persisting.Unlock()
	return s.note(true)
}

// note writes how far the acknowledgements are. Called with persisting.
func (s *Spool) note(durable bool) error {
	s.mu.Lock()
	c := s.content()
	s.mu.Unlock()
	if c.acked == s.persisted.Load() || !durable && c.acked == s.noted.Load() {
		return nil
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

// Seq is a record's sequence id on the wire.
func (s *Spool) Seq(index uint64) uint32 {
	return seqOf(s.epochs, index)
}

// First is the index of the first record not acknowledged.
func (s *Spool) First() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acked + 1
}

// Left is how many records are not acknowledged.
func (s *Spool) Left() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last - s.acked
}

// Close syncs, writes down how far the acknowledgements are, and releases the
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
