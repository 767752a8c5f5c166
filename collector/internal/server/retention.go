package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// Retention is what is kept of sealed days; the day that is written is never
// dropped.
type Retention struct {
	MaxDays  int   // days kept, today included; 0 is all
	MaxBytes int64 // of the partitions' files; 0 is any number
}

// Why a day was dropped: the values of the reason label, and what is logged.
const (
	dropDays  = "max_days"
	dropBytes = "max_bytes"
	dropSpace = "space" // an action of rotate
)

// retainEvery is how often the limits are looked at: a day ends once a day.
const retainEvery = time.Minute

// retention drops old days until ctx ends.
func (s *Server) retention(ctx context.Context) {
	tick := time.NewTicker(retainEvery)
	defer tick.Stop()
	for {
		if err := s.retain(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Log.Error("dropping old days", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.retainNow:
		}
	}
}

// retain drops the sealed days that lie beyond the limits, the oldest first.
func (s *Server) retain(ctx context.Context) error {
	limits := *s.keep.Load()
	for ctx.Err() == nil {
		st, err := s.store.Stats(ctx)
		if err != nil {
			return err
		}
		reason := limits.beyond(&st, store.DayOf(s.cfg.Now()))
		if reason == "" {
			return nil
		}
		if dropped, err := s.dropOldest(ctx, reason); err != nil || !dropped {
			return err
		}
	}
	return ctx.Err()
}

// beyond says which limit asks for the oldest sealed day to be dropped, "" for
// none.
func (r Retention) beyond(st *store.Stats, today store.Day) string {
	oldest := oldestSealed(st)
	switch {
	case oldest == nil:
		return ""
	case r.MaxDays > 0 && int64(oldest.Day) <= int64(today)-int64(r.MaxDays):
		return dropDays
	case r.MaxBytes > 0 && st.DiskBytes > uint64(r.MaxBytes):
		return dropBytes
	}
	return ""
}

// oldestSealed is the first of the days, unless it is the one being written.
func oldestSealed(st *store.Stats) *store.DayStats {
	for i := range st.Days {
		if st.Days[i].Sealed {
			return &st.Days[i]
		}
	}
	return nil
}

// dropOldest drops the oldest sealed day and says so; it is false when there is
// none.
func (s *Server) dropOldest(ctx context.Context, reason string) (bool, error) {
	s.dropMu.Lock()
	defer s.dropMu.Unlock()
	st, err := s.store.Stats(ctx)
	if err != nil {
		return false, err
	}
	d := oldestSealed(&st)
	if d == nil {
		return false, nil
	}
	err = s.store.Drop(ctx, d.Day)
	if errors.Is(err, store.ErrNoDay) {
		return true, nil // somebody else was faster: look again
	}
	if err != nil {
		s.own.add("DAEMON_ROTATE", "op=drop-day day=%s reason=%s auid=-1 pid=-1 subj=? res=failed", d.Day, reason)
		return false, fmt.Errorf("drop the oldest day: %w", err)
	}
	label := reason
	if label != dropDays && label != dropBytes {
		label = dropSpace
	}
	s.drops.Days.Add(label, 1)
	s.drops.Events.Add(label, int(d.Events))
	s.cfg.Log.Warn("dropped a day of events", "day", d.Day.String(), "reason", reason, "events", d.Events, "records", d.Records, "disk_bytes", d.DiskBytes)
	s.own.add("DAEMON_ROTATE", "op=drop-day day=%s reason=%s events=%d records=%d auid=-1 pid=-1 subj=? res=success", d.Day, reason, d.Events, d.Records)
	return true, nil
}
