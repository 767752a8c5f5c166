package journal

import (
	"context"
	"time"
)

// A taker that has just taken waits a little before it takes again, unless much is
// ready: at a low rate it would else be woken for every record, which costs more
// than the record. Poke ends the wait.
const (
	takeLinger = 5 * time.Millisecond
	takeCost   = 256 << 10 // of budget; a quarter of it where that is less
)

// taker says what the goroutine in Take waits for.
type taker uint8

const (
	takerBusy    taker = iota // not in Take: it looks for itself
	takerIdle                 // in Take; anything wakes it
	takerLingers              // in Take; takeCost wakes it, and its own timer
	takerTold                 // a signal is on its way
)

// Take waits for committed batches and returns all there are, in order. What was
// committed less than a few milliseconds after the last batches were taken waits
// for more. Their bytes stay counted against the queue until the next call. Only
// one goroutine may take. After Close and the last batch it returns ErrClosed;
// after a Poke it returns at once what there is, or nothing once.
func (j *Journal) Take(ctx context.Context) ([]*Batch, error) {
	j.releaseTaken()
	wait := takeLinger - time.Since(j.lastTake)
	for {
		poked := j.poked.Load()
		j.mu.Lock()
		switch {
		case len(j.ready) > 0 && (wait <= 0 || poked || j.stopped || j.readyCost.all >= j.takeCost):
			out := j.ready
			j.ready = nil
			j.takenCost, j.readyCost = j.readyCost, cost{}
			j.taker = takerBusy
			j.mu.Unlock()
			j.lastTake = time.Now()
			return out, nil
		case len(j.ready) == 0 && j.stopped:
			j.mu.Unlock()
			return nil, ErrClosed
		case len(j.ready) == 0 && poked:
			j.taker = takerBusy
			j.mu.Unlock()
			j.poked.Store(false)
			return nil, nil
		case wait > 0:
			j.taker = takerLingers
		default:
			j.taker = takerIdle
		}
		j.mu.Unlock()
		if err := j.await(ctx, wait); err != nil {
			j.mu.Lock()
			j.taker = takerBusy
			j.mu.Unlock()
			return nil, err
		}
		wait = takeLinger - time.Since(j.lastTake)
	}
}

// await waits for a signal, at most so long where wait is more than 0.
func (j *Journal) await(ctx context.Context, wait time.Duration) error {
	var over <-chan time.Time
	if wait > 0 {
		if j.linger == nil {
			j.linger = time.NewTimer(wait)
		} else {
			j.linger.Reset(wait)
		}
		defer j.linger.Stop()
		over = j.linger.C
	}
	select {
	case <-j.available:
	case <-over:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
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
