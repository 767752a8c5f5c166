// Package underway tells for how long a call has not returned, such as a write to a disk that hangs,
// without a lock that the call holds. The collector's journal and head import it.
package underway

import (
	"sync/atomic"
	"time"
)

// Call is one call at a time, such as a loop makes. Any goroutine may ask For.
type Call struct {
	since atomic.Pointer[time.Time] // nil: none is under way
}

// Begin notes that a call begins at a time.
func (c *Call) Begin(at time.Time) { c.since.Store(&at) }

// End notes that it has returned.
func (c *Call) End() { c.since.Store(nil) }

// For returns for how long the call that is under way has not returned; 0 where there is none.
func (c *Call) For(now time.Time) time.Duration {
	since := c.since.Load()
	if since == nil {
		return 0
	}
	return max(0, now.Sub(*since))
}
