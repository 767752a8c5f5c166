// Package wake has the one way in which a goroutine here is told that something it
// waits for may have changed. Every package may import it; it imports nothing of ours.
package wake

// Signal wakes the one goroutine that receives from it. The state that changed is
// elsewhere, under its own lock: whoever changes it calls Set afterwards, and the
// receiver looks at that state again each time it has received. So Sets that come
// while the receiver is busy are worth one, no change is missed, and a receiver must
// expect to find that nothing has changed.
type Signal chan struct{}

// New makes a Signal that is not set.
func New() Signal { return make(Signal, 1) }

// Set has the next receive, or one that waits already, return. It never blocks, and
// any goroutine may call it, also under a lock.
func (s Signal) Set() {
	select {
	case s <- struct{}{}:
	default: // set already: that receive is still to come
	}
}
