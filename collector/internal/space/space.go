// Package space watches the disk of the collector's store: it says when space is
// low, when records must be refused so that what was accepted can still be put in
// order, and has the configured action done about either. The collector's server
// wires it before the journal and is the only one to import it.
//
// Admit is called for every batch and costs a few atomic operations; the disk is
// looked at once a second and after every few bytes in between. One goroutine
// (Run) does what follows from it. Lock order: Watcher.mu is the only lock and
// nothing is called under it.
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
	// ErrFull is returned by Admit while the rest of the disk is kept for what was
	// accepted already. It passes by itself.
	ErrFull = errors.New("the disk of the store has only its reserve left")
	// ErrSuspended is returned by Admit after an action of suspend, until Resume.
	ErrSuspended = errors.New("storing is suspended")
)

// Usage is a filesystem's size and what is free for use, in bytes.
type Usage struct{ Total, Free uint64 }

// Limits are what may be changed while the collector runs.
type Limits struct {
	// Reserve is the space that is left to what was accepted, in bytes: for the
	// index, for the partition, for the end. At most an eighth of the disk is
	// kept so. 0 is DefaultReserve, negative none.
	Reserve int64

	SpaceLeft            conf.Space
	SpaceLeftAction      conf.Action
	AdminSpaceLeft       conf.Space
	AdminSpaceLeftAction conf.Action
	DiskFullAction       conf.Action
	DiskErrorAction      conf.Action
}

// DefaultReserve has room for all that can be in memory and journal on its way to
// a partition, even where it does not compress.
const DefaultReserve = 128 << 20

// maxReservePart bounds the reserve on small disks, to that part of them.
const maxReservePart = 8

// recheck is how many bytes are admitted between two looks at the disk.
const recheck = 1 << 20

// reserve is how much is kept free on a disk of that size.
func (l *Limits) reserve(total uint64) uint64 {
	switch {
	case l.Reserve < 0:
		return 0
	case l.Reserve == 0:
		return min(DefaultReserve, total/maxReservePart)
	}
	return min(uint64(l.Reserve), total/maxReservePart)
}

// Check says whether the actions can be done here.
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
	// Space asks how many bytes are free on the disk, and how many it has.
	Space func() (free, total uint64, err error)
	Every time.Duration // between two looks at the disk; a second when 0
	Log   hclog.Logger
	// Do does an action; it must not wait. See action.Runner.
	Do func(a conf.Action, m action.Message)
	// DropOldest drops the oldest sealed day, and is false when there is none.
	DropOldest func(ctx context.Context, reason string) (bool, error)
	// Relieve, when set, is called again and again while the disk is full, to have
	// the journal emptied into the store.
	Relieve func(ctx context.Context)
	// Excess, when set, is how much of the disk is used by what grows for want of a
	// working store: bytes that are no reason to drop days.
	Excess func() uint64
	// Record, when set, writes a record of the collector's own: op says what.
	Record func(op string)
}

// Condition is something that is wrong with the disk.
type Condition int

// The conditions.
const (
	Low   Condition = iota // space_left
	Admin                  // admin_space_left
	Full                   // disk_full_action: the reserve is reached, or a write found no room
	Error                  // disk_error_action: a write failed for another reason
	numConditions
)

// conditions are the words of each.
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

// Status is how things are.
type Status struct {
	Usage     Usage
	Reserve   uint64
	Is        [numConditions]bool
	Acted     [numConditions]bool   // its action was done for this time
	Actions   [numConditions]uint64 // done, ever
	Suspended bool
	Limits    Limits
}

// Watcher is safe for use by several goroutines.
type Watcher struct {
	cfg  Config
	kick wake.Signal // something changed that may ask for an action

	// Read for every batch.
	low, full, suspended atomic.Bool
	since                atomic.Int64 // bytes admitted since the last look

	mu      sync.Mutex
	limits  Limits                // guarded by mu
	usage   Usage                 // guarded by mu
	is      [numConditions]bool   // guarded by mu
	noRoom  error                 // guarded by mu: a write found no room, and none has succeeded since
	failing error                 // guarded by mu: likewise for other reasons
	acted   [numConditions]bool   // guarded by mu
	actions [numConditions]uint64 // guarded by mu
	blind   bool                  // guarded by mu: the disk could not be asked the last time
	empty   bool                  // guarded by mu: rotate was wanted and there was no day to drop
	spared  bool                  // guarded by mu: rotate was wanted and would not have been without Excess
}

// New makes a Watcher that has looked at the disk once.
func New(cfg Config) *Watcher {
	if cfg.Every == 0 {
		cfg.Every = time.Second
	}
	w := &Watcher{cfg: cfg, limits: cfg.Limits, kick: wake.New()}
	w.measure()
	return w
}

// Admit says whether n bytes of records may be accepted: nil, ErrFull or
// ErrSuspended.
func (w *Watcher) Admit(n int64) error {
	if w.since.Add(n) >= recheck {
		w.since.Store(0)
		w.measure()
	}
	switch {
	case w.suspended.Load():
		return ErrSuspended
	case w.full.Load():
		return ErrFull
	}
	return nil
}

// IsLow says whether space_left is passed: records are acknowledged with a warning.
func (w *Watcher) IsLow() bool { return w.low.Load() }

// measure asks the disk and updates the conditions; what follows is Run's.
func (w *Watcher) measure() {
	free, total, err := w.cfg.Space()
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		// What is not known is no reason to refuse anything: a write that fails will
		// say so.
		if !w.blind {
			w.cfg.Log.Error("the space on the disk is not known", "error", err)
		}
		w.blind = true
		return
	}
	w.blind, w.usage = false, Usage{Total: total, Free: free}
	w.assess()
}

// assess derives the conditions; mu is held. A limit that was passed is so until
// a sixteenth more than it is free, so that its action is not done over and over
// at the very edge.
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

// under says whether less than a limit would be free if more were; mu is held.
func (w *Watcher) under(c Condition, limit, more uint64) bool {
	if w.is[c] {
		limit += limit / 16
	}
	return limit > 0 && w.usage.Free+more < limit
}

// Outcome is told when records could not be stored (the reason), and when they
// could again (nil). Refusals by Admit are not its business.
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

// SetLimits changes the limits. A limit that was passed before and is so now has
// had its action.
func (w *Watcher) SetLimits(l Limits) {
	w.mu.Lock()
	w.limits = l
	w.assess()
	w.mu.Unlock()
	w.kick.Set()
}

// Resume ends a suspension and says whether there was one. The condition that led
// to it must pass and come again before it suspends again.
func (w *Watcher) Resume() bool {
	was := w.suspended.Swap(false)
	w.measure()
	return was
}

// Status returns how things are.
func (w *Watcher) Status() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return Status{
		Usage: w.usage, Reserve: w.limits.reserve(w.usage.Total), Is: w.is, Acted: w.acted, Actions: w.actions,
		Suspended: w.suspended.Load(), Limits: w.limits,
	}
}

// Begin does what is to be done about the disk as it is now. It is called once,
// before Run, so that nothing is admitted before.
func (w *Watcher) Begin(ctx context.Context) { w.act(ctx) }

// Run looks at the disk and does what is to be done, until ctx ends.
func (w *Watcher) Run(ctx context.Context) {
	tick := time.NewTicker(w.cfg.Every)
	defer tick.Stop()
	for {
		w.act(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			w.measure()
		case <-w.kick:
		}
	}
}
