// Package space watches the disk of the collector's store. It tells when space is low, and
// when records must be refused so that those which were accepted can still be stored, and
// does the configured action in either case. The collector's server wires it before the
// journal and is the only one to import it.
//
// Admit is called for every batch and costs a few atomic operations. The disk is asked for
// its space after each MiB that was admitted and, where records come, once a second; while nothing comes and nothing
// is wrong, every few seconds. One goroutine (Run) does the actions. Watcher.mu is the only lock; nothing of Config but
// Log is called under it.
package space

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/pkg/action"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/syslog"
	"github.com/auditfleet/auditfleet/pkg/wake"
)

var (
	// ErrFull is returned by Admit while only the reserve is free, which is kept for
	// records that were accepted already. It passes once there is space again.
	ErrFull = errors.New("the disk of the store has only its reserve left")
	// ErrSuspended is returned by Admit after an action of suspend, until Resume.
	ErrSuspended = errors.New("storing is suspended")
)

// Usage is a filesystem's size and what is free for use, in bytes.
type Usage struct{ Total, Free uint64 }

// Limits are the settings that may be changed while the collector runs. Names are those of
// auditd.conf.
type Limits struct {
	// Reserve is how many bytes are kept free for records that were accepted already: for
	// their groups and index, and for an orderly end. It is at most an eighth of the disk.
	// 0 means DefaultReserve, a negative one none.
	Reserve int64

	SpaceLeft            conf.Space
	SpaceLeftAction      conf.Action
	AdminSpaceLeft       conf.Space
	AdminSpaceLeftAction conf.Action
	DiskFullAction       conf.Action
	DiskErrorAction      conf.Action
}

// DefaultReserve has room for all that can be in memory and journal on its way to a
// partition, even where it does not compress.
const DefaultReserve = 128 << 20

// maxReservePart: the reserve is at most that part of the disk, here an eighth.
const maxReservePart = 8

// recheck is after how many admitted bytes the disk is asked again.
const recheck = 1 << 20

// reserve returns how many bytes are kept free on a disk of that size.
func (l *Limits) reserve(total uint64) uint64 {
	switch {
	case l.Reserve < 0:
		return 0
	case l.Reserve == 0:
		return min(DefaultReserve, total/maxReservePart)
	}
	return min(uint64(l.Reserve), total/maxReservePart)
}

// Check returns why actions cannot be done on this machine; nil when all can.
func (l *Limits) Check(r *action.Runner) error {
	var errs []error
	for _, c := range conditions {
		if a := c.action(l); a.Do != "" {
			errs = append(errs, r.Check(c.key, a))
		}
	}
	return errors.Join(errs...)
}

// Config is what a Watcher is made of.
type Config struct {
	Limits Limits
	// Space returns how many bytes are free on the disk, and how many it has. Any
	// goroutine may call it.
	Space func() (free, total uint64, err error)
	Every time.Duration // how often the disk is asked for its space where that may matter; a second when 0
	Calm  time.Duration // how long a condition has to be over before it is one that begins anew; a minute when 0, at once when negative
	Log   hclog.Logger
	// Do does an action; it must not wait. See action.Runner.
	Do func(a conf.Action, m action.Message)
	// DropOldest drops the oldest sealed day, and returns false when there is none.
	DropOldest func(ctx context.Context, reason string) (bool, error)
	// Relieve, when set, has the journal emptied into the store. It is called again and
	// again while the disk is full.
	Relieve func(ctx context.Context)
	// Excess, when set, returns how many bytes the journal has grown by because the store
	// takes nothing. To drop days does not help against these.
	Excess func() uint64
	// Lingering, when set, returns how many bytes of days that were dropped are free once
	// searches that still read them have ended. To drop more does not bring them sooner.
	Lingering func() uint64
	// Record, when set, stores a record of the collector's own about op.
	Record func(op string)
}

// Condition is a thing that can be wrong with the disk.
type Condition int

// The conditions.
const (
	Low   Condition = iota // space_left
	Admin                  // admin_space_left
	Full                   // disk_full_action: the reserve is reached, or a write found no room
	Error                  // disk_error_action: a write failed for another reason
	numConditions
)

// conditions has, for each Condition, the key of its action in auditd.conf, the words for
// it, the op of the collector's own record ("" for none), and its action.
var conditions = [numConditions]struct {
	key, subject, op string
	level            syslog.Priority
	action           func(*Limits) conf.Action
}{
	Low:   {"space_left_action", "space on the audit disk is low", "", syslog.Alert, func(l *Limits) conf.Action { return l.SpaceLeftAction }},
	Admin: {"admin_space_left_action", "space on the audit disk is very low", "", syslog.Alert, func(l *Limits) conf.Action { return l.AdminSpaceLeftAction }},
	Full:  {"disk_full_action", "the audit disk is full", "disk-full", syslog.Alert, func(l *Limits) conf.Action { return l.DiskFullAction }},
	Error: {"disk_error_action", "the audit disk fails", "disk-error", syslog.Alert, func(l *Limits) conf.Action { return l.DiskErrorAction }},
}

// Status is the disk's state, and the limits that it was judged by.
type Status struct {
	Usage     Usage
	Reserve   uint64                // bytes
	Is        [numConditions]bool   // which conditions there are now
	Acted     [numConditions]bool   // the action was done since the condition began
	Actions   [numConditions]uint64 // how often the action was done, ever
	Suspended bool
	Limits    Limits
}

// Watcher watches a disk. Any number of goroutines may call its methods, but for Begin and
// Run.
//
// Whoever learns something about the disk (Admit, Outcome, Run's ticker) updates the
// conditions under mu, by assess, and wakes Run when one has changed. Run alone does the
// actions, without mu. low, full and suspended are copies for readers that take no lock:
// assess writes the first two under mu. suspended is Run's to set and Resume's to clear.
type Watcher struct {
	cfg  Config
	kick wake.Signal // wakes Run: a condition or a limit has changed
	// stale wakes Run: records come, and the disk was not asked for Every.
	stale wake.Signal

	// Read for every batch.
	low, full, suspended atomic.Bool
	since                atomic.Int64 // bytes admitted since the disk was asked
	asked                atomic.Int64 // when that was, in ns after start
	start                time.Time

	mu      sync.Mutex // guards everything below
	limits  Limits
	usage   Usage
	is      [numConditions]bool      // the conditions that there are
	noRoom  error                    // a write found no room, and none has succeeded since
	failing error                    // a write failed for another reason, and none has succeeded since
	acted   [numConditions]bool      // act has done the action for the present time
	ended   [numConditions]time.Time // when act found that condition over; zero: it is there, or was over for Calm
	actions [numConditions]uint64    // how often, ever
	blind   bool                     // the last time the disk's space was not to be had
	empty   bool                     // rotate was wanted and there was no day to drop
	spared  bool                     // rotate was wanted, and would not have been without Excess
	dropped time.Time                // when rotate dropped a day last
}

// New makes a Watcher and asks the disk for its space once. It does no action before Begin.
func New(cfg Config) *Watcher {
	if cfg.Every == 0 {
		cfg.Every = time.Second
	}
	if cfg.Calm == 0 {
		cfg.Calm = time.Minute
	}
	w := &Watcher{cfg: cfg, limits: cfg.Limits, kick: wake.New(), stale: wake.New(), start: time.Now()}
	w.measure()
	return w
}

// Admit returns nil when n bytes of records may be accepted, else ErrFull or ErrSuspended.
func (w *Watcher) Admit(n int64) error {
	if w.since.Add(n) >= recheck {
		w.since.Store(0)
		w.measure()
	} else if now := int64(time.Since(w.start)); now-w.asked.Load() >= int64(w.cfg.Every) {
		w.asked.Store(now)
		w.stale.Set() // not here: this may be asked of a disk that hangs
	}
	switch {
	case w.suspended.Load():
		return ErrSuspended
	case w.full.Load():
		return ErrFull
	}
	return nil
}

// IsLow reports whether less than space_left is free: records are then acknowledged with a
// warning.
func (w *Watcher) IsLow() bool { return w.low.Load() }

// measure asks the disk for its space and updates the conditions; the actions are Run's.
func (w *Watcher) measure() {
	w.asked.Store(int64(time.Since(w.start)))
	free, total, err := w.cfg.Space()
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		// Not to know the space is no reason to refuse records: if there is none, a write
		// fails.
		if !w.blind {
			w.cfg.Log.Error("the space on the disk is not known", "error", err)
		}
		w.blind = true
		return
	}
	w.blind, w.usage = false, Usage{Total: total, Free: free}
	w.assess()
}

// assess derives the conditions from usage, limits and the outcome of writes; mu is held. A
// condition ends only when a sixteenth more than its limit is free, so that the action is
// not done over and over at the very edge.
func (w *Watcher) assess() {
	under := func(c Condition, limit uint64) bool { return w.under(c, limit, 0) }
	was := w.is
	w.is[Low] = under(Low, w.limits.SpaceLeft.Of(w.usage.Total))
	w.is[Admin] = under(Admin, w.limits.AdminSpaceLeft.Of(w.usage.Total))
	reserve := under(Full, w.limits.reserve(w.usage.Total))
	w.is[Full] = reserve || w.noRoom != nil
	w.is[Error] = w.failing != nil
	w.low.Store(w.is[Low])
	w.full.Store(reserve)
	if was != w.is {
		w.kick.Set()
	}
}

// under reports whether less than a limit would be free with more bytes free than there
// are; mu is held.
func (w *Watcher) under(c Condition, limit, more uint64) bool {
	if w.is[c] {
		limit += limit / 16
	}
	return limit > 0 && w.usage.Free+more < limit
}

// Outcome tells the Watcher how writing records went: err is why they could not be stored,
// nil when they could. A refusal of Admit's is passed over.
func (w *Watcher) Outcome(err error) {
	if errors.Is(err, ErrFull) || errors.Is(err, ErrSuspended) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil:
		w.noRoom, w.failing = nil, nil
	case fsys.NoRoom(err):
		w.noRoom = err
	default:
		w.failing = err
	}
	w.assess()
}

// SetLimits changes the limits. A condition that there was before and is under the new
// limits, too, has had its action.
func (w *Watcher) SetLimits(l Limits) {
	w.mu.Lock()
	w.limits = l
	w.assess()
	w.rearm()
	w.mu.Unlock()
	w.kick.Set()
}

// rearm has what is wrong no longer be over at once: somebody has seen to it. mu is held.
func (w *Watcher) rearm() {
	for c := range w.is {
		if !w.is[c] && w.acted[c] {
			w.ended[c] = time.Now().Add(-w.cfg.Calm)
		}
	}
}

// Resume ends a suspension and reports whether there was one. The condition that led to it
// suspends again only after it has ended and begun once more.
func (w *Watcher) Resume() bool {
	was := w.suspended.Swap(false)
	w.measure()
	w.mu.Lock()
	w.rearm()
	w.mu.Unlock()
	return was
}

// Status returns the disk's state as it was measured last.
func (w *Watcher) Status() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return Status{
		Usage: w.usage, Reserve: w.limits.reserve(w.usage.Total), Is: w.is, Acted: w.acted, Actions: w.actions,
		Suspended: w.suspended.Load(), Limits: w.limits,
	}
}

// Begin does the actions of conditions that there are from the start. It is called once,
// before Run and before records are admitted.
func (w *Watcher) Begin(ctx context.Context) { w.act(ctx) }

// Run asks the disk for its space again and again, and does the actions, until ctx ends. It
// is called once.
func (w *Watcher) Run(ctx context.Context) {
	tick := time.NewTimer(0)
	defer tick.Stop()
	for {
		w.act(ctx)
		tick.Reset(w.pause())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			w.measure()
		case <-w.stale:
			w.measure()
		case <-w.kick:
		}
	}
}

// quiet is how many times Every Run lets pass while nothing is wrong and no records come.
const quiet = 5

// pause is how long Run waits before it asks for the space again.
func (w *Watcher) pause() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.is == [numConditions]bool{} && !w.blind && !w.suspended.Load() {
		return wake.In(quiet * w.cfg.Every)
	}
	return w.cfg.Every
}
