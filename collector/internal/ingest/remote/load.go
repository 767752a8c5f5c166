package remote

import (
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/poll"
)

// A connection is light while it sends no more than its part of lightRateTotal frames a
// second, and of lightBurstTotal at once: those who open thousands of connections win
// nothing by it. It has lightRateLeast and lightBurstLeast at least, as most hosts send no
// more. One that is not light becomes so when it could send half of that at once. A frame
// with nothing to store (a heartbeat, an empty line) or a part of one counts as
// uselessFrames.
const (
	lightRateLeast, lightRateTotal   = 16, 256 << 10
	lightBurstLeast, lightBurstTotal = 8, 64 << 10
	uselessFrames                    = 16
)

// A turn of a light connection takes no more than its part of lightBytes, but
// lightBytesLeast; one that has more to read is heavy.
const lightBytes, lightBytesLeast = 8 << 20, 1 << 10

// part is what one of n has of a total, if that is more than the least.
func part(total, n, least int) int { return max(total/max(n, 1), least) }

// load is how much a connection sends.
type load struct {
	class poll.Class
	spare float64   // frames that it may send at once and be light
	at    time.Time // when spare was so
}

func newLoad(now time.Time) load {
	return load{class: poll.Fresh, spare: lightBurstLeast, at: now}
}

// turn tells of a turn of one of n connections: how many frames it had, how many of them
// with nothing to store, and whether it ended because a light one's does.
func (l *load) turn(frames, useless int, more bool, n int, now time.Time) {
	cost := float64(frames + (uselessFrames-1)*useless)
	if frames == 0 {
		cost = uselessFrames
	}
	most := float64(part(lightBurstTotal, n, lightBurstLeast))
	if more {
		cost = 2 * most
	}
	rate := float64(part(lightRateTotal, n, lightRateLeast))
	l.spare = min(l.spare+max(now.Sub(l.at).Seconds(), 0)*rate, most)
	l.spare, l.at = max(l.spare-cost, -most), now
	switch {
	case l.spare < 0:
		l.class = poll.Heavy
	case l.spare >= most/2:
		l.class = poll.Light
	}
}
