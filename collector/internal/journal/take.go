package journal

import (
	"context"
	"time"
)

// takeCost is how much of the queue's room has to be ready for Take to wait no longer; a quarter of that room where it is
// less.
const takeCost = 256 << 10

// taker says what the goroutine in Take waits for.
type taker uint8

const (
	takerBusy    taker = iota // not in Take: it looks for itself
	takerIdle                 // in Take, and nothing is ready
	takerLingers              // in Take; plenty wakes it, and the timer
	takerTold                 // a signal is on its way
)

// Take waits for committed batches and returns all there are, in order. It waits for more until the first of
// them has been ready for so long as linger says, unless they are many or somebody waits for the room that they have:
// to be woken for every record costs more than the record, where they are few. Their bytes stay counted against the queue
// until the next call. Only one goroutine may take. After Close and the last batch it returns ErrClosed;
// after a Poke it returns at once what there is, or nothing once.
func (j *Journal) Take(ctx context.Context, linger time.Duration) ([]*Batch, error) {
	j.releaseTaken()
	for {
		poked := j.poked.Load()
		j.mu.Lock()
		j.linger = linger
		left := time.Duration(0)
		if len(j.ready) > 0 {
			left = linger - time.Since(j.readySince)
		}
		switch {
		case len(j.ready) > 0 && (left <= 0 || poked || j.stopped || j.plenty()):
			out := j.ready
			j.ready = nil
			j.takenCost, j.readyCost = j.readyCost, cost{}
			j.taker = takerBusy
			j.lingerOver.Stop()
			j.mu.Unlock()
			return out, nil
		case len(j.ready) == 0 && j.stopped:
			j.mu.Unlock()
			return nil, ErrClosed
		case len(j.ready) == 0 && poked:
			j.taker = takerBusy
			j.poked.Store(false) // with mu held: a Poke behind a commit that is not seen here counts for the next Take
			j.mu.Unlock()
			return nil, nil
		case len(j.ready) > 0:
			j.taker = takerLingers
			j.lingerOver.Reset(left)
		default:
			j.taker = takerIdle
		}
		j.mu.Unlock()
		select {
		case <-j.available:
		case <-ctx.Done():
			j.mu.Lock()
			j.taker = takerBusy
			j.mu.Unlock()
			return nil, ctx.Err()
		}
	}
}

// plenty says that what is ready is not to wait for more. mu is held.
func (j *Journal) plenty() bool {
	return j.readyCost.all >= j.takeCost || j.readyCost.heavy >= j.takeCost || j.short.Load() > 0
}

// tellTaker says whether the taker is to be woken now that more is ready. Where that is to be later, it sees to
// it. mu is held.
func (j *Journal) tellTaker() bool {
	switch {
	case j.taker != takerIdle && j.taker != takerLingers:
		return false
	case j.plenty() || j.linger <= 0:
		j.taker = takerTold
		return true
	case j.taker == takerIdle && len(j.ready) > 0:
		j.taker = takerLingers
		j.lingerOver.Reset(j.linger)
	}
	return false
}

// releaseTaken gives back the room of the batches of the last Take.
func (j *Journal) releaseTaken() {
	j.mu.Lock()
	c := j.takenCost
	j.takenCost = cost{}
	j.mu.Unlock()
	if c != (cost{}) {
		j.share.release(c)
	}
}

// Poke makes a waiting or the next Take return at once: with what was committed
// before, or with nothing.
func (j *Journal) Poke() {
	j.poked.Store(true)
	j.available.Set()
}
