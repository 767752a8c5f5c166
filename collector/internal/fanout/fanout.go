// Package fanout gathers the fleet's events into batches for the collector's plugins: to
// hand the dispatcher one event at a time would cost more than the event itself. Only the
// server's wiring imports it; it imports pkg.
package fanout

import (
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/pkg/dispatch"
	"github.com/auditfleet/auditfleet/pkg/event"
)

// A batch is handed to the plugins when it has maxBytes, or after maxDelay.
const (
	maxBytes = 64 << 10
	maxDelay = 50 * time.Millisecond
)

// Fanout gathers the events of all hosts, whole and in the order in which they were complete,
// for its Dispatcher, which it closes. Any goroutine may call its methods; a batch that was
// handed on is the dispatcher's and is not touched any more.
type Fanout struct {
	*dispatch.Dispatcher

	mu    sync.Mutex // guards everything below
	batch *dispatch.Batch
	bytes int         // of batch
	due   *time.Timer // hands batch on; nil before the first
}

// Open starts the plugins of cfg; Reload may add others later.
func Open(cfg dispatch.Config) (*Fanout, error) {
	d, err := dispatch.Open(cfg)
	if err != nil {
		return nil, err
	}
	return &Fanout{Dispatcher: d}, nil
}

// Add copies an event into the present batch; the event is the caller's again afterwards.
// The head calls it as its OnEvent, so it never waits for a plugin. While no plugin is
// active it does nothing.
func (f *Fanout) Add(_ string, ev *event.Event) {
	if !f.Active() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.batch == nil {
		f.batch = dispatch.NewBatch(maxBytes/8, 64)
		if f.due == nil {
			f.due = time.AfterFunc(maxDelay, f.flush)
		} else {
			f.due.Reset(maxDelay)
		}
	}
	for i := range ev.Records {
		f.batch.Add(ev.Records[i].Type, ev.Records[i].Raw)
		f.bytes += len(ev.Records[i].Raw)
	}
	if f.bytes >= maxBytes {
		f.putLocked()
	}
}

// putLocked hands the present batch to the dispatcher, which never waits; mu is held.
func (f *Fanout) putLocked() {
	f.due.Stop()
	f.Put(f.batch)
	f.batch, f.bytes = nil, 0
}

// flush hands the present batch on, if there is one.
func (f *Fanout) flush() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.batch != nil {
		f.putLocked()
	}
}

// Close hands on the last batch and closes the dispatcher. Nobody calls Add any more.
func (f *Fanout) Close() error {
	f.flush()
	return f.Dispatcher.Close()
}
