package poll

import (
	"sync/atomic"
	"time"
)

// relieveAfter is how long the end of a round may take before another goroutine
// takes the connections over.
const relieveAfter = 100 * time.Millisecond

// relief has another goroutine go on where one is stuck at the end of a round; that one ends
// when it comes back. Its timer goes while there are rounds, so that a round sets none: a timer that is set and
// stopped again with each would wake threads for nothing.
type relief struct {
	p       *Poller
	timer   *time.Timer
	began   atomic.Int64 // ns after Poller.start when the end of a round began that goes on; 0: none does
	rounds  atomic.Uint64
	seen    uint64      // of rounds; the timer's
	watches atomic.Bool // the timer goes
}

func (r *relief) init(p *Poller) {
	r.p = p
	r.timer = time.AfterFunc(time.Hour, r.look)
	r.timer.Stop()
}

func (r *relief) now() int64 { return max(1, int64(time.Since(r.p.start))) }

// begin says that a round ends from now on.
func (r *relief) begin() (began int64) {
	began = r.now()
	r.began.Store(began)
	r.rounds.Add(1)
	if !r.watches.Load() && r.watches.CompareAndSwap(false, true) {
		r.timer.Reset(relieveAfter)
	}
	return began
}

// end says that it has ended, and returns whether the caller still has the connections.
func (r *relief) end(began int64) bool { return r.began.CompareAndSwap(began, 0) }

// look is the timer's.
func (r *relief) look() {
	began, rounds := r.began.Load(), r.rounds.Load()
	idle := rounds == r.seen && began == 0
	r.seen = rounds
	if idle {
		r.watches.Store(false)
		// A round that has begun just now took the timer to be going.
		if r.rounds.Load() == rounds || !r.watches.CompareAndSwap(false, true) {
			return
		}
	}
	next := relieveAfter
	if began != 0 {
		if left := relieveAfter - time.Duration(r.now()-began); left > 0 {
			next = left
		} else if !r.relieve(began) {
			return
		}
	}
	r.timer.Reset(next)
}

// relieve has another goroutine go on, unless the round has ended just now. It says no when the poller is closed.
func (r *relief) relieve(began int64) bool {
	p := r.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	if r.began.CompareAndSwap(began, 0) {
		p.wg.Add(1)
		go p.run()
	}
	return true
}
