// Package outgrown notices a journal that is larger than what it has to hold. That is
// what is not stored yet: two tables at most, what is open about twice, and the segments
// that these lie in. Where it has outgrown that by far, the store takes nothing, or
// records could not be carried: a fault that is said, and no reason to drop days of
// events, which would not make it smaller. The server's wiring is the only one to import
// it.
package outgrown

import (
	"context"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
)

const (
	// factor is how many times what it has to hold a journal may have: it is no fault
	// that the store is behind for a while.
	factor = 4
	// every is how often the journal is looked at, and sayEvery how often it is said
	// while it lasts.
	every    = 10 * time.Second
	sayEvery = 10 * time.Minute
)

// Watcher watches a journal. Run is for one goroutine, the rest for any.
type Watcher struct {
	Journal func() journal.Stats
	Head    func() head.Stats
	// Needs is the size of a table and of a segment together.
	Needs func() int64
	Log   hclog.Logger
	Now   func() time.Time

	said time.Time // Run's: when it was last said; zero while all is well
}

// Limit is the size beyond which the journal has outgrown what it has to hold.
func (w *Watcher) Limit() int64 { return factor * w.Needs() }

// Excess is what the journal has beyond its limit.
func (w *Watcher) Excess() uint64 { return w.excess(w.Journal().DiskBytes) }

func (w *Watcher) excess(bytes int64) uint64 { return uint64(max(0, bytes-w.Limit())) }

// Run warns while the journal has outgrown what it has to hold, and says when it no
// longer has, until ctx ends.
func (w *Watcher) Run(ctx context.Context) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		w.check()
	}
}

func (w *Watcher) check() {
	now, j := w.Now(), w.Journal()
	args := []any{"bytes", j.DiskBytes, "limit", w.Limit(), "first_lsn", j.FirstLSN, "last_lsn", j.LastLSN}
	switch over := w.excess(j.DiskBytes) > 0; {
	case over && (w.said.IsZero() || now.Sub(w.said) >= sayEvery || now.Before(w.said)):
		w.said = now
		h := w.Head()
		w.Log.Warn("the journal has outgrown what it has to hold: the store does not take events, or records of open events cannot be written again; look for errors of the store and at the disk",
			append(args, "stored_lsn", h.StoredLSN, "open_events", h.OpenEvents, "store_error", h.StoreError)...)
	case !over && !w.said.IsZero():
		w.said = time.Time{}
		w.Log.Info("the journal has its size again", args...)
	}
}
