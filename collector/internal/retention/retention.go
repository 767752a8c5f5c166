// Package retention drops old events, a part of the store at a time (a day, or one of
// several parts of a day): parts beyond the limits that an administrator has set, and the
// oldest part when the disk's watcher asks for room. Which part is the oldest, and what day
// it is, it decides by more than the machine's clock; see ages. The collector's server wires
// it and is the only one to import it.
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

// Limits bound what is kept of sealed parts. The part that is written is never dropped.
type Limits struct {
	MaxDays  int   // days kept, today included, by a clock that can be believed; 0 is all
	MaxBytes int64 // of what the store takes on the disk; 0 is any number
	// Rules are for classes of events. They hold for parts that compaction has divided; a part that is not divided has events of all
	// classes, and is kept for the longest time of them.
	Rules Rules
}

// why says which limit a part is dropped for, for good: in the log of what was stored.
func (l Limits) why(p *store.PartStats, reason string) string {
	switch reason {
	case dropClass:
		for _, r := range l.Rules {
			if r.Class.String() == p.Class {
				return fmt.Sprintf("%s = %s", reason, r)
			}
		}
		return fmt.Sprintf("%s: %d days", reason, l.days(p)) // of none: the longest
	case dropDays:
		return fmt.Sprintf("%s = %d", reason, l.MaxDays)
	case dropBytes:
		return fmt.Sprintf("%s = %d", reason, l.MaxBytes)
	}
	return reason
}

// The reasons for which a part is dropped: in the metric's label, the log and the record.
const (
	dropDays  = "max_days"
	dropBytes = "max_bytes"
	dropClass = "retain"
	dropSpace = "space" // an action of rotate
)

// every is how often the limits are applied.
const every = time.Minute

// Events is what retention needs of a store's events.
type Events interface {
	Stats(ctx context.Context) (store.Stats, error)
	Drop(ctx context.Context, part store.Part, why string) error
}

// Config is what a Keeper is made of.
type Config struct {
	Events Events
	Limits Limits
	Now    func() time.Time
	Log    hclog.Logger
	// Held returns why a part is on hold, "" when it may be dropped; nil: nothing is.
	Held func(ctx context.Context, p *store.PartStats) string
	// Metrics is where the drops are counted.
	Metrics *metrics.Registry
	// Record writes a record of the collector's own, of type DAEMON_ROTATE. It is not
	// called before Run or DropOldest is.
	Record func(format string, args ...any)
}

// Keeper drops old parts. Any number of goroutines may call its methods; Run is called once.
type Keeper struct {
	cfg    Config
	drops  *metrics.Drops
	limits atomic.Pointer[Limits] // what it points to never changes
	now    wake.Signal            // wakes Run
	// drop is held from asking for the oldest part until it is dropped: of two who ask at
	// the same time, the second finds it gone, and drops the next only if it still has to.
	// Whoever puts something on hold holds it, too: what is on hold then is there.
	drop sync.Mutex
	// passed has the parts that were said to be passed over, and why; guarded by drop.
	passed map[store.Part]string
	all    int    // how many there were when all was last said to be on hold; guarded by drop
	failed string // what was last said not to be dropped, and for which limit; guarded by drop
	// doubted is true while max_days does not count from the clock's day, and apart while that is not the day of the servers that have the events.
	doubted, apart atomic.Bool
}

// New makes a Keeper. It drops nothing before Run.
func New(cfg Config) *Keeper {
	k := &Keeper{cfg: cfg, drops: metrics.NewDrops(cfg.Metrics, dropDays, dropBytes, dropClass, dropSpace), now: wake.New()}
	k.limits.Store(&cfg.Limits)
	return k
}

// SetLimits changes the limits; Run applies them at once.
func (k *Keeper) SetLimits(l Limits) {
	k.limits.Store(&l)
	k.now.Set()
}

// Limits are those that hold now.
func (k *Keeper) Limits() Limits { return *k.limits.Load() }

// Apply has Run apply the limits at once. It does not wait for that.
func (k *Keeper) Apply() { k.now.Set() }

// ClockDoubted reports whether max_days waits for the clock, which is far beyond the last
// day of which something is stored, or far from that of the servers that have the events.
func (k *Keeper) ClockDoubted() bool { return k.doubted.Load() || k.apart.Load() }

// today returns the day by which parts are old; false where nobody knows it. One clock goes for all collectors whose events lie together, that of the servers: one
// with a wrong clock would drop what the others have just stored.
func (k *Keeper) today(st *store.Stats) (day store.Day, ok bool) {
	own := k.cfg.Now()
	if st.Now.IsZero() {
		return store.DayOf(own), true
	}
	ok = store.ClocksAgree(own, st.Now)
	if k.apart.Swap(!ok) == ok {
		if ok {
			k.cfg.Log.Info("this machine's clock agrees with the cluster's: days are dropped as ever")
		} else {
			k.cfg.Log.Error("nothing is dropped: this machine's clock and the cluster's are more than a day apart; put right the one that is wrong", "own", own.UTC().Format(time.RFC3339), "cluster", st.Now.UTC().Format(time.RFC3339))
		}
	}
	return store.DayOf(st.Now), ok
}

// ages returns how old the parts are; false where nobody knows it.
func (k *Keeper) ages(ctx context.Context, st *store.Stats) (ages, bool) {
	today, ok := k.today(st)
	if !ok {
		return ages{}, false
	}
	return agesOf(st.Parts, today, k.held(ctx)), true
}

// Run applies the limits, every minute and when it is asked to, until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	said := ""
	for {
		err := k.apply(ctx)
		if err != nil && err.Error() != said && ctx.Err() == nil {
			k.cfg.Log.Error("dropping old days", "error", err)
		}
		if said = ""; err != nil {
			said = err.Error()
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
		ages, ok := k.ages(ctx, &st)
		if !ok {
			return nil
		}
		k.logClock(ages, limits)
		if p, _ := limits.beyond(ages, st.DiskBytes, k.held(ctx)); p == nil {
			return k.passOver(ctx)
		}
		if dropped, err := k.dropNext(ctx, ""); err != nil || !dropped {
			return err
		}
	}
	return ctx.Err()
}

// Next returns the part that is dropped first where room is wanted, and for how many days it is to be kept, 0 for ever; nil
// where nothing can be dropped.
func (k *Keeper) Next(ctx context.Context, st *store.Stats) (p *store.PartStats, days int) {
	ages, ok := k.ages(ctx, st)
	if !ok {
		return nil, 0
	}
	l := k.Limits()
	p = l.oldest(ages, k.held(ctx))
	if p != nil {
		days = l.days(p)
	}
	return p, days
}

// held returns what tells whether a part is on hold.
func (k *Keeper) held(ctx context.Context) func(*store.PartStats) bool {
	return func(p *store.PartStats) bool { return k.cfg.Held != nil && k.cfg.Held(ctx, p) != "" }
}

// While runs fn, which puts something on hold or takes it off, while nothing is dropped. Then the
// limits are applied.
func (k *Keeper) While(fn func() error) error {
	k.drop.Lock()
	defer k.drop.Unlock()
	defer k.Apply()
	return fn()
}

// DropOldest drops the sealed part that is not on hold and whose time is over first, which is the oldest one where all are kept
// alike, and counts, logs and records that with the reason. It returns false when there is none.
func (k *Keeper) DropOldest(ctx context.Context, reason string) (bool, error) {
	return k.dropNext(ctx, reason)
}

// dropNext is DropOldest, or drops what is beyond a limit where there is no reason given.
func (k *Keeper) dropNext(ctx context.Context, reason string) (bool, error) {
	k.drop.Lock()
	defer k.drop.Unlock()
	st, err := k.cfg.Events.Stats(ctx)
	if err != nil {
		return false, err
	}
	ages, ok := k.ages(ctx, &st)
	if !ok {
		return false, nil
	}
	limits := k.Limits()
	d := limits.oldest(ages, k.held(ctx))
	if reason == "" {
		if d, reason = limits.beyond(ages, st.DiskBytes, k.held(ctx)); d == nil {
			return false, nil // somebody else was faster
		}
	}
	if reason != dropClass { // it is the first of all
		k.sayPassed(ctx, ages, d, reason)
	}
	if d == nil {
		return false, nil
	}
	err = k.cfg.Events.Drop(ctx, d.Part, limits.why(d, reason))
	if errors.Is(err, store.ErrNoDay) {
		return true, nil // somebody else was faster: look again
	}
	if err != nil {
		if what := fmt.Sprintf("day=%s reason=%s", d.Part, reason); k.failed != what { // it is tried each minute
			k.failed = what
			k.cfg.Record("op=drop-day %s auid=-1 pid=-1 subj=? res=failed", what)
		}
		return false, fmt.Errorf("drop the oldest day: %w", err)
	}
	k.failed = ""
	label := reason
	if label != dropDays && label != dropBytes && label != dropClass {
		label = dropSpace
	}
	k.drops.Days.Add(label, 1)
	k.drops.Events.Add(label, int(d.Events))
	k.cfg.Log.Warn("dropped a day of events", "day", d.Part.String(), "reason", reason, "class", d.Class, "events", d.Events, "records", d.Records, "disk_bytes", d.DiskBytes)
	k.cfg.Record("op=drop-day day=%s reason=%s events=%d records=%d auid=-1 pid=-1 subj=? res=success", d.Part, reason, d.Events, d.Records)
	return true, nil
}

// passOver says which parts lie beyond the limits and stay, because they are on hold.
func (k *Keeper) passOver(ctx context.Context) error {
	if k.cfg.Held == nil {
		return nil
	}
	k.drop.Lock()
	defer k.drop.Unlock()
	st, err := k.cfg.Events.Stats(ctx)
	if err != nil {
		return err
	}
	ages, ok := k.ages(ctx, &st)
	if !ok {
		return nil
	}
	limits := *k.limits.Load()
	for { // as if nothing were on hold, the oldest first
		p, reason := limits.beyond(ages, st.DiskBytes, nil)
		if p == nil {
			return nil
		}
		k.say(ctx, p, reason)
		st.DiskBytes -= min(st.DiskBytes, p.DiskBytes)
		ages = ages.without(p)
	}
}

// sayPassed says which parts are older than the one that is dropped, and stay because they are on
// hold; dropped is nil where all that is sealed is on hold. drop is held.
func (k *Keeper) sayPassed(ctx context.Context, a ages, dropped *store.PartStats, reason string) {
	n := 0
	for _, x := range a.list {
		if x.PartStats == dropped {
			return
		}
		if x.Sealed {
			n++
			k.say(ctx, x.PartStats, reason)
		}
	}
	if n > 0 {
		k.sayAll(n, reason)
	}
}

// say logs once that a part stays; drop is held.
func (k *Keeper) say(ctx context.Context, p *store.PartStats, reason string) {
	if k.cfg.Held == nil {
		return
	}
	why := k.cfg.Held(ctx, p)
	if why == "" || k.passed[p.Part] == reason+why {
		return
	}
	if k.passed == nil {
		k.passed = map[store.Part]string{}
	}
	k.passed[p.Part] = reason + why
	k.cfg.Log.Warn("a day is on hold and stays, which would be dropped", "day", p.Part.String(), "reason", reason, "hold", why, "events", p.Events, "disk_bytes", p.DiskBytes)
}

// sayAll logs, each time there is another number of them, that all that is sealed is on hold; drop is
// held.
func (k *Keeper) sayAll(n int, reason string) {
	if k.all == n {
		return
	}
	k.all = n
	k.cfg.Log.Error("nothing can be dropped: all sealed days are on hold (collector hold list); records will be refused once the disk is full", "days", n, "reason", reason)
}

// logClock logs once that max_days waits for the clock, and once that it need not.
func (k *Keeper) logClock(a ages, l Limits) {
	doubt := (l.MaxDays > 0 || len(l.Rules) > 0) && a.today != a.clock
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
