package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// Retention is what is kept of sealed partitions; the one that is written is never
// dropped.
type Retention struct {
	MaxDays  int   // days kept, today included, by a clock that can be believed; 0 is all
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
		ages := agesOf(st.Days, store.DayOf(s.cfg.Now()))
		s.sayClock(ages, limits.MaxDays)
		reason := limits.beyond(ages, st.DiskBytes)
		if reason == "" {
			return nil
		}
		if dropped, err := s.dropOldest(ctx, reason); err != nil || !dropped {
			return err
		}
	}
	return ctx.Err()
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
	d := agesOf(st.Days, store.DayOf(s.cfg.Now())).oldest()
	if d == nil {
		return false, nil
	}
	err = s.store.Drop(ctx, d.Part)
	if errors.Is(err, store.ErrNoDay) {
		return true, nil // somebody else was faster: look again
	}
	if err != nil {
		s.own.add("DAEMON_ROTATE", "op=drop-day day=%s reason=%s auid=-1 pid=-1 subj=? res=failed", d.Part, reason)
		return false, fmt.Errorf("drop the oldest day: %w", err)
	}
	label := reason
	if label != dropDays && label != dropBytes {
		label = dropSpace
	}
	s.drops.Days.Add(label, 1)
	s.drops.Events.Add(label, int(d.Events))
	s.cfg.Log.Warn("dropped a day of events", "day", d.Part.String(), "reason", reason, "events", d.Events, "records", d.Records, "disk_bytes", d.DiskBytes)
	s.own.add("DAEMON_ROTATE", "op=drop-day day=%s reason=%s events=%d records=%d auid=-1 pid=-1 subj=? res=success", d.Part, reason, d.Events, d.Records)
	return true, nil
}
