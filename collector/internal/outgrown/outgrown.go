// Package outgrown watches for a journal that is larger than what it has to hold. It has to
// hold the records that are not stored yet: two tables at most, the open events about twice,
// and the rest of the segments that these lie in. A journal that is larger by far means a
// fault: the store takes no events, or records of open events could not be written again.
// The Watcher warns of it, and counts the excess, so that days of events are not dropped for
// it: that would not make the journal smaller. Only the server's wiring imports it.
package outgrown

import (
	"context"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/pkg/wake"
)

const (
	// factor is how many times a table and a segment the journal may have: it is no fault
	// that the store is behind for a while.
	factor = 4
	// every is how often the journal's size is compared, warnEvery how often the warning is
	// repeated.
	every     = 10 * time.Second
	warnEvery = 10 * time.Minute
)

// Watcher watches a journal. Its exported fields are set before the first use. Run is called
// once; any goroutine may call the rest.
type Watcher struct {
	Journal func() journal.Stats
	Head    func() head.Stats
	// Needs is the size of a table and of a segment together.
	Needs func() int64
	Log   hclog.Logger
	Now   func() time.Time

	warned time.Time // when the last warning was; zero while all is well. Run's alone
}

// Limit returns the size beyond which the journal has outgrown what it has to hold.
func (w *Watcher) Limit() int64 { return factor * w.Needs() }

// Excess returns how many bytes the journal has beyond its limit, 0 for none.
func (w *Watcher) Excess() uint64 { return w.excess(w.Journal().DiskBytes) }

func (w *Watcher) excess(bytes int64) uint64 { return uint64(max(0, bytes-w.Limit())) }

// Run warns while the journal has outgrown what it has to hold, and logs when it no longer
// has, until ctx ends.
func (w *Watcher) Run(ctx context.Context) {
	tick := time.NewTimer(wake.In(every))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			tick.Reset(wake.In(every))
		}
		w.check()
	}
}

// check compares the journal's size once. A clock that went back counts as one after which
// it is time to warn again.
func (w *Watcher) check() {
	now, j := w.Now(), w.Journal()
	args := []any{"bytes", j.DiskBytes, "limit", w.Limit(), "first_lsn", j.FirstLSN, "last_lsn", j.LastLSN}
	switch over := w.excess(j.DiskBytes) > 0; {
	case over && (w.warned.IsZero() || now.Sub(w.warned) >= warnEvery || now.Before(w.warned)):
		w.warned = now
		h := w.Head()
		w.Log.Warn("the journal has outgrown what it has to hold: the store does not take events, or records of open events cannot be written again; look for errors of the store and at the disk",
			append(args, "stored_lsn", h.StoredLSN, "open_events", h.OpenEvents, "store_error", h.StoreError)...)
	case !over && !w.warned.IsZero():
		w.warned = time.Time{}
		w.Log.Info("the journal has its size again", args...)
	}
}
