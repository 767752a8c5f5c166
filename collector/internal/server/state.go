package server

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/space"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// status says how the collector fares.
func (s *Server) status() *fleet.StatusResponse {
	j, h := s.journal.Stats(), s.head.Stats()
	return &fleet.StatusResponse{
		Version: s.cfg.Version, Pid: uint32(os.Getpid()), StartedMs: s.started.UnixMilli(),
		Store: s.cfg.Store, Listen: addrs(s.Addrs()), Connections: uint64(s.connections()),
		Records: j.Records, Bytes: j.Bytes, Hosts: uint64(h.Hosts), State: s.condition(),
		StoreId: storeID(s.store), Batch: h.StoredID,
	}
}

// state is "ok" or why the collector does not do its work at present.
func (s *Server) state() string {
	if !s.ready.Load() {
		return "not accepting connections"
	}
	switch err := s.space.Admit(0); {
	case errors.Is(err, space.ErrFull):
		return "the disk is full: records are refused until there is space again"
	case errors.Is(err, space.ErrSuspended):
		return "storing is suspended: records are refused until it is resumed"
	}
	return s.storage()
}

// storage is "ok", or what fails at storing.
func (s *Server) storage() string {
	h, j := s.head.Stats(), s.journal.Stats()
	if kind, what := s.hangs(&j, &h); kind != "" {
		return what
	}
	switch {
	case j.Failing:
		return "the journal cannot be written: nothing is acknowledged"
	case h.StoreError != nil:
		return "the store takes no events (they are safe in the journal): " + h.StoreError.Error()
	}
	return "ok"
}

// condition is state, and what waits for a cluster: that takes nothing from being ready, and no restart helps.
func (s *Server) condition() string {
	state, wait := s.state(), s.waiting()
	switch {
	case wait == "":
		return state
	case state == "ok":
		return wait
	}
	return state + "; " + wait
}

// waiting says what waits on the disk for a cluster that takes nothing; "" where one takes what comes, or there is none.
func (s *Server) waiting() string {
	sp, err := store.Able[store.Spooler](s.store, "let events wait")
	if err != nil {
		return ""
	}
	w := sp.Waiting()
	if w.Err == nil {
		return ""
	}
	return fmt.Sprintf("the cluster takes no events since %s: %d batches of %d events (%d MiB of text) wait safely on the disk, and are searched there: %v", w.Since.UTC().Format(time.RFC3339), w.Batches, w.Events, w.Bytes>>20, w.Err)
}

// A write of a commit is some MiB at most; a table is 32 MiB and is encoded first. What takes longer than
// these has a disk that hangs, or is far too slow.
const (
	journalHangs = 10 * time.Second
	storeHangs   = time.Minute
)

// hangs says which write to the disk has not returned for long, in a word and in a sentence; "": none.
func (s *Server) hangs(j *journal.Stats, h *head.Stats) (kind, what string) {
	switch {
	case j.Hanging >= s.cfg.hung:
		return "journal-hangs", fmt.Sprintf("a write to the journal has not returned for %d s: nothing is acknowledged; look at the disk", int(j.Hanging.Seconds()))
	case h.Storing >= storeHangs:
		return "store-hangs", fmt.Sprintf("the store has not taken events for %d s (they are safe in the journal): look at the disk", int(h.Storing.Seconds()))
	}
	return "", ""
}

// looksAHang is how many looks the watchdog has at a disk that hangs before its time is over.
const looksAHang = 4

// hangsFor reports whether a watchdog that ends a process after some time without a turn has to hear that the disk hangs, which it does for so long:
// before its time is over, and so before anybody else is told.
func hangsFor(long, watched time.Duration) bool {
	return watched > 0 && long >= watched/looksAHang
}

// alive counts turns for the watchdog: those of the head, and looks at a disk that hangs. A restart would not help
// there, and nobody would say any more what is wrong.
func (s *Server) alive() uint64 {
	h, j := s.head.Stats(), s.journal.Stats()
	if kind, _ := s.hangs(&j, &h); kind != "" || hangsFor(max(j.Hanging, h.Storing), s.cfg.Service.Watched()) {
		s.hungLooks.Add(1)
	}
	return s.head.Turns() + s.hungLooks.Load()
}
