package server

import (
	"context"
	"time"
)

// The journal holds what is not stored yet: two tables at most, what is open about
// twice, and the segments that these lie in. Where it has outgrown that by far, the
// store takes nothing, or records could not be carried: a fault that is said, and no
// reason to drop days of events, which would not make it smaller.
const (
	outgrownFactor = 4
	// outgrownEvery is how often the journal is looked at, and outgrownSay how often
	// it is said while it lasts.
	outgrownEvery = 10 * time.Second
	outgrownSay   = 10 * time.Minute
	// openDiskPart is what part of the disk open events may take in memory, and so
	// about half of what they take in the journal.
	openDiskPart = 16
)

// journalLimit is the size beyond which the journal has outgrown its table.
func (s *Server) journalLimit() int64 {
	return outgrownFactor * (s.share(tablePart, maxTable) + s.share(segmentPart, maxSegment))
}

// journalExcess is what the journal has beyond its limit.
func (s *Server) journalExcess() uint64 {
	if s.journal == nil {
		return 0
	}
	return uint64(max(0, s.journal.Stats().DiskBytes-s.journalLimit()))
}

// openTotal is how much memory open events may take: on a small disk less than is
// configured.
func (s *Server) openTotal() int {
	if total := int64(s.space.Status().Usage.Total); total > 0 {
		return int(min(s.cfg.OpenTotal, max(total/openDiskPart, minPart)))
	}
	return int(s.cfg.OpenTotal)
}

// watchJournal says that the journal has outgrown its table, and when no longer.
func (s *Server) watchJournal(ctx context.Context) {
	tick := time.NewTicker(outgrownEvery)
	defer tick.Stop()
	var said time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.sayOutgrown(&said)
	}
}

// sayOutgrown warns when the journal has outgrown its table; said is when it was said
// last, zero when all was well.
func (s *Server) sayOutgrown(said *time.Time) {
	now := s.cfg.Now()
	j := s.journal.Stats()
	args := []any{"bytes", j.DiskBytes, "limit", s.journalLimit(), "first_lsn", j.FirstLSN, "last_lsn", j.LastLSN}
	switch over := s.journalExcess() > 0; {
	case over && (said.IsZero() || now.Sub(*said) >= outgrownSay || now.Before(*said)):
		*said = now
		h := s.head.Stats()
		s.cfg.Log.Warn("the journal has outgrown what it has to hold: the store does not take events, or records of open events cannot be written again; look for errors of the store and at the disk",
			append(args, "stored_lsn", h.StoredLSN, "open_events", h.OpenEvents, "store_error", h.StoreError)...)
	case !over && !said.IsZero():
		*said = time.Time{}
		s.cfg.Log.Info("the journal has its size again", args...)
	}
}
