package rewrite

import (
	"context"
	"time"
)

// Pace bounds how many bytes are read a second, and rests while others want the CPU, for one goroutine after another, each on a
// thread of its own. A nil Pace bounds nothing, nor does one without a rate.
type Pace struct {
	rate     int64
	begun    time.Time
	bytes    int64 // so far
	courtesy courtesy
}

// NewPace returns a Pace of so many bytes a second; 0 or less: as many as can be.
func NewPace(rate int64) *Pace { return &Pace{rate: rate, begun: time.Now()} }

// Done says that so many bytes more are read, and waits until that is not too much. It returns the context's error.
func (p *Pace) Done(ctx context.Context, bytes uint64) error {
	if p == nil || p.rate <= 0 {
		return ctx.Err()
	}
	p.bytes += int64(min(bytes, 1<<40)) //nolint:gosec // bounded
	ahead := time.Duration(float64(p.bytes)/float64(p.rate)*float64(time.Second)) - time.Since(p.begun)
	if ahead < -time.Second { // it was held up: that is not caught up with
		p.begun, ahead = p.begun.Add(-ahead), 0
	}
	rest := p.courtesy.rest()
	if rest > ahead { // nor is that
		p.begun = p.begun.Add(rest - max(ahead, 0))
	}
	if pause := max(ahead, rest); pause > 0 {
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return ctx.Err()
}
