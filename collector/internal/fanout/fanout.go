// Package fanout gathers the events of the fleet for the collector's plugins: the
// dispatcher takes batches, and an event at a time would cost it more than the event. The
// server's wiring is the only one to import it; it imports pkg.
package fanout

import (
	"context"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/pkg/dispatch"
	"github.com/auditfleet/auditfleet/pkg/event"
)

// maxBytes and maxDelay are when gathered events are handed to the plugins.
const (
	maxBytes = 64 << 10
	maxDelay = 50 * time.Millisecond
)

// Fanout gathers the events of all hosts, whole and in the order in which they were
// complete, for a dispatcher that is its own to close.
type Fanout struct {
	*dispatch.Dispatcher

	mu    sync.Mutex
	batch *dispatch.Batch // guarded by mu
	bytes int             // guarded by mu: of batch
}

// Open starts the plugins there are; more may come with Reload.
func Open(cfg dispatch.Config) (*Fanout, error) {
	d, err := dispatch.Open(cfg)
	if err != nil {
		return nil, err
	}
	return &Fanout{Dispatcher: d}, nil
}

// Add gathers an event. It is the head's OnEvent, and never waits.
func (f *Fanout) Add(_ string, ev *event.Event) {
	if !f.Active() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.batch == nil {
		f.batch = dispatch.NewBatch(maxBytes/8, 64)
	}
	for i := range ev.Records {
		f.batch.Add(ev.Records[i].Type, ev.Records[i].Raw)
		f.bytes += len(ev.Records[i].Raw)
	}
	if f.bytes >= maxBytes {
		f.putLocked()
	}
}

// putLocked hands on what is gathered. mu is held.
func (f *Fanout) putLocked() {
	f.Put(f.batch)
	f.batch, f.bytes = nil, 0
}

func (f *Fanout) flush() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.putLocked()
}

// Run hands on what has waited long enough, until ctx ends.
func (f *Fanout) Run(ctx context.Context) {
	tick := time.NewTicker(maxDelay)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			f.flush()
		case <-ctx.Done():
			return
		}
	}
}

// Close lets the plugins have the last events, and ends them.
func (f *Fanout) Close() error {
	f.flush()
	return f.Dispatcher.Close()
}
