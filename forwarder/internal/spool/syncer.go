package spool

import (
	"errors"
	"fmt"
	"time"

	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// syncer runs in the spool's own goroutine and does there what may wait for a disk, so
// that Append need not: once a SyncInterval, and when kick is set. It ends when stop is
// closed, and closes joined. It alone calls keepHome, until Close does after it has ended.
func (s *Spool) syncer() {
	defer close(s.joined)
	tick := time.NewTicker(s.opt.SyncInterval)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		case <-s.kick:
		case <-s.wanted:
			// The tick says what is wrong, if something is.
			_ = s.syncLog()
			continue
		}
		s.keepHome()
		err := s.Sync()
		if err != nil {
			s.syncErrs.Add(1)
		}
		switch {
		case err != nil && !failing:
			s.hlg.Error("sync spool", "dir", s.opt.Dir, "error", err)
		case err == nil && failing:
			s.hlg.Info("spool is synced again", "dir", s.opt.Dir)
		}
		failing = err != nil
	}
}

// Sync makes all appended records durable, writes acked durably to the state file, and
// frees the segments whose records are all acknowledged. Any goroutine may call it.
func (s *Spool) Sync() error {
	errs := []error{s.syncLog(), s.persist()}
	s.freeAcked()
	return errors.Join(errs...)
}

// syncLog makes all appended records durable.
func (s *Spool) syncLog() error {
	if s.log.Synced() == s.log.Last() {
		return nil
	}
	s.unsynced.Store(0)
	if err := s.log.Sync(); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	s.ready.Set()
	return nil
}

// Stats is the spool's condition. Its counters count since Open.
type Stats struct {
	First, Last uint64        // indexes: First of the first record not acknowledged (Last+1 when there is none), Last of the last record
	Records     uint64        // records not acknowledged
	Bytes       int64         // size of the segments in use
	Synced      uint64        // index of the last durable record
	Age         time.Duration // age of the oldest record not acknowledged, 0 when there is none
	Dropped     uint64        // records dropped because the spool or the disk was full
	Refused     uint64        // records that Append refused
	Damaged     uint64        // records that could not be read back
	SyncErrors  uint64        // failed runs of the syncer
	Moved       uint64        // times the folder or files in it were found removed, renamed or replaced
	Away        string        // why they are not restored yet, "" when the spool is in its place
}

// Counts has the counters of Stats. Reading them never touches the disk.
type Counts struct{ Dropped, Refused, Damaged, SyncErrors, Moved uint64 }

// Counts returns the present counters. Any goroutine may call it.
func (s *Spool) Counts() Counts {
	return Counts{Dropped: s.dropped.Load(), Refused: s.refused.Load(), Damaged: s.damaged.Load(), SyncErrors: s.syncErrs.Load(), Moved: s.home.moved.Load()}
}

// Stats returns the spool's present condition. Any goroutine may call it. It may read from
// disk, for Age, when the oldest record is not in memory.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	st := Stats{First: s.acked + 1, Last: s.last, Records: s.last - s.acked}
	s.mu.Unlock()
	st.Bytes, st.Synced = s.log.Size(), s.log.Synced()
	st.Dropped, st.Refused = s.dropped.Load(), s.refused.Load()
	st.Damaged, st.SyncErrors = s.damaged.Load(), s.syncErrs.Load()
	st.Moved, st.Away = s.home.moved.Load(), s.Away()
	if st.Records > 0 {
		if ms, ok := s.appended(st.First); ok {
			st.Age = max(0, s.opt.Now().Sub(time.UnixMilli(ms)))
		}
	}
	return st
}

// appended returns when the first readable record at or after index was appended, in
// milliseconds since 1970; false when there is none. It caches the last answer it read
// from disk in s.oldest.
func (s *Spool) appended(index uint64) (ms int64, ok bool) {
	s.mu.Lock()
	if s.oldest.index == index {
		defer s.mu.Unlock()
		return s.oldest.ms, true
	}
	if e := s.hot.get(index); e != nil {
		defer s.mu.Unlock()
		ms, _, _, _ = parseEntry(e)
		return ms, true
	}
	s.mu.Unlock()
	r, err := s.log.Reader(index)
	if err != nil {
		return 0, false
	}
	defer func() { _ = r.Close() }() // only read
	for {
		_, e, err := r.Next()
		var damage *seglog.CorruptError
		if errors.As(err, &damage) {
			continue
		}
		if err != nil {
			return 0, false
		}
		if ms, _, _, err = parseEntry(e); err != nil {
			continue
		}
		s.mu.Lock()
		s.oldest.index, s.oldest.ms = index, ms
		s.mu.Unlock()
		return ms, true
	}
}
