// Package retention drops old events, a part of the store at a time (a day, or one of
// several parts of a day): those beyond the limits that an administrator set, and
// the oldest when the disk's watcher asks for room. It decides which part is the
// oldest, and what day it is, by more than the machine's clock; see ages. The
// collector's server wires it and is the only one to import it.
package retention

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/pkg/wake"
)

// Limits are what is kept of sealed parts; the one that is written is never dropped.
type Limits struct {
	MaxDays  int   // days kept, today included, by a clock that can be believed; 0 is all
	MaxBytes int64 // of what the store takes on the disk; 0 is any number
}

// Why a part was dropped: the values of the reason label, and what is logged.
const (
	dropDays  = "max_days"
	dropBytes = "max_bytes"
	dropSpace = "space" // an action of rotate
)

// every is how often the limits are compared with what is stored: a day ends once a day.
const every = time.Minute

// Events is what retention needs of a store's events.
type Events interface {
	Stats(ctx context.Context) (store.Stats, error)
	Drop(ctx context.Context, part store.Part) error
}

// Config is what a Keeper is made of.
type Config struct {
	Events Events
	Limits Limits
	Now    func() time.Time
	Log    hclog.Logger
	// Metrics is where the drops are counted.
	Metrics *metrics.Registry
	// Record writes a record of the collector's own, of type DAEMON_ROTATE. It is not
	// called before Run or DropOldest is.
	Record func(format string, args ...any)
}

// Keeper is safe for use by several goroutines.
type Keeper struct {
	cfg    Config
	drops  *metrics.Drops
	limits atomic.Pointer[Limits]
	now    wake.Signal // the limits are to be looked at now
	drop   sync.Mutex  // held while a part is dropped: two who ask for the oldest must not drop two
	// doubted says that max_days does not count from the clock's day.
	doubted atomic.Bool
}

// New makes a Keeper. It drops nothing before Run.
func New(cfg Config) *Keeper {
	k := &Keeper{cfg: cfg, drops: metrics.NewDrops(cfg.Metrics, dropDays, dropBytes, dropSpace), now: wake.New()}
	k.limits.Store(&cfg.Limits)
	return k
}

// SetLimits changes the limits; Run applies them at once.
func (k *Keeper) SetLimits(l Limits) {
	k.limits.Store(&l)
	k.now.Set()
}

// Apply has Run apply the limits at once.
func (k *Keeper) Apply() { k.now.Set() }

// ClockDoubted says that max_days waits for the clock: it is far beyond the last day
// of which something is stored.
func (k *Keeper) ClockDoubted() bool { return k.doubted.Load() }

// Run drops old parts until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if err := k.apply(ctx); err != nil && ctx.Err() == nil {
			k.cfg.Log.Error("dropping old days", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-k.now:
		}
	}
}

// apply drops the sealed parts that lie beyond the limits, the oldest first.
func (k *Keeper) apply(ctx context.Context) error {
	limits := *k.limits.Load()
	for ctx.Err() == nil {
		st, err := k.cfg.Events.Stats(ctx)
		if err != nil {
			return err
		}
		ages := agesOf(st.Parts, store.DayOf(k.cfg.Now()))
		k.sayClock(ages, limits.MaxDays)
		reason := limits.beyond(ages, st.DiskBytes)
		if reason == "" {
			return nil
		}
		if dropped, err := k.DropOldest(ctx, reason); err != nil || !dropped {
			return err
		}
	}
	return ctx.Err()
}

// DropOldest drops the oldest sealed part, counts, logs and records it under a reason;
// it is false when there is none.
func (k *Keeper) DropOldest(ctx context.Context, reason string) (bool, error) {
	k.drop.Lock()
	defer k.drop.Unlock()
	st, err := k.cfg.Events.Stats(ctx)
	if err != nil {
		return false, err
	}
	d := agesOf(st.Parts, store.DayOf(k.cfg.Now())).oldest()
	if d == nil {
		return false, nil
	}
	err = k.cfg.Events.Drop(ctx, d.Part)
	if errors.Is(err, store.ErrNoDay) {
		return true, nil // somebody else was faster: look again
	}
	if err != nil {
		k.cfg.Record("op=drop-day day=%s reason=%s auid=-1 pid=-1 subj=? res=failed", d.Part, reason)
		return false, fmt.Errorf("drop the oldest day: %w", err)
	}
	label := reason
	if label != dropDays && label != dropBytes {
		label = dropSpace
	}
	k.drops.Days.Add(label, 1)
	k.drops.Events.Add(label, int(d.Events))
	k.cfg.Log.Warn("dropped a day of events", "day", d.Part.String(), "reason", reason, "events", d.Events, "records", d.Records, "disk_bytes", d.DiskBytes)
	k.cfg.Record("op=drop-day day=%s reason=%s events=%d records=%d auid=-1 pid=-1 subj=? res=success", d.Part, reason, d.Events, d.Records)
	return true, nil
}

// sayClock logs once that max_days waits for the clock, and once that it need not.
func (k *Keeper) sayClock(a ages, maxDays int) {
	doubt := maxDays > 0 && a.today != a.clock
	if doubt == k.doubted.Swap(doubt) {
		return
	}
	if doubt {
		k.cfg.Log.Warn("the clock is far beyond the last stored day: max_days counts from that day until the clock is put right, or two more days have passed",
			"clock", a.clock.String(), "last_stored", a.today.String())
		return
	}
	k.cfg.Log.Info("the clock agrees with the stored days: max_days counts from today", "today", a.today.String())
}
