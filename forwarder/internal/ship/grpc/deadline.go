package grpc

import (
	"os"
	"sync"
	"time"
)

// errTimeout is returned by a call whose deadline has passed: its Timeout method says true.
var errTimeout error = os.ErrDeadlineExceeded

// deadline ends waits at a time that any goroutine may move, as net.Pipe's do.
type deadline struct{ *deadlineState }

type deadlineState struct {
	mu    sync.Mutex
	timer *time.Timer   // guarded by mu; nil: never
	over  chan struct{} // guarded by mu; closed once the time has passed
	begun uint64        // guarded by mu: of set, so that an old timer closes nothing
}

func newDeadline() deadline { return deadline{&deadlineState{over: make(chan struct{})}} }

// set moves the deadline; zero: never.
func (d deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.begun++
	select {
	case <-d.over:
		d.over = make(chan struct{})
	default:
	}
	if t.IsZero() {
		return
	}
	left := time.Until(t)
	if left <= 0 {
		close(d.over)
		return
	}
	begun := d.begun
	d.timer = time.AfterFunc(left, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.begun == begun {
			close(d.over)
		}
	})
}

// passed returns a channel that is closed when the deadline passes. One that is moved
// meanwhile is noticed by who waits when it passes only where it is the same channel: a
// deadline that is moved before it has passed keeps it.
func (d deadline) passed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.over
}

func (d deadline) stop() { d.set(time.Time{}) }
