package ledger

import "slices"

// chain follows the kernel's serials of one boot of a host, as its records come. The kernel numbers
// the events that it makes, so where number follows number nothing was left out on the way.
// Records come nearly in order: a number that is passed over may still come.
type chain struct {
	last   uint32 // the highest seen
	lastMs int64  // of its event
	gaps   []gap  // not decided; by first
}

// gap is numbers that were passed over.
type gap struct {
	first, last uint32
	from, to    int64 // made between these times
	found       int64 // received, ms
}

const (
	// lateSerials is how many numbers a record may come late by, and lateMs how long: both
	// what our forwarder allows (forwarder/internal/kernel).
	lateSerials = 16384
	lateMs      = 20_000
	// maxGaps is how many are held undecided: beyond it the oldest is decided.
	maxGaps = 64
	// clockSlack is how much earlier than the one before an event of a higher serial may be: CPUs
	// queue their records in their own time, and clocks are set.
	clockSlack = 60_000
	// lateSlack is how much earlier the event of a lower serial may be: an old log that is read in
	// beside a live host is none of its boot.
	lateSlack = 600_000
)

// fits reports whether an event can be of the chain's boot.
func (c *chain) fits(ms int64, serial uint32) bool {
	d := int32(serial - c.last)
	switch {
	case d >= 0:
		return ms >= c.lastMs-clockSlack
	default:
		return d > -lateSerials && ms <= c.lastMs+clockSlack && ms >= c.lastMs-lateSlack
	}
}

// add takes an event's serial, which fits.
func (c *chain) add(ms int64, serial uint32, received int64) {
	d := int32(serial - c.last)
	switch {
	case d == 0: // a further record of the same event
		return
	case d < 0:
		c.fill(serial)
		return
	case d > 1:
		c.gaps = append(c.gaps, gap{c.last + 1, serial - 1, min(c.lastMs, ms), max(ms, c.lastMs), received})
	}
	c.last, c.lastMs = serial, max(ms, c.lastMs)
}

// fill takes a serial that came late out of the gaps.
func (c *chain) fill(serial uint32) {
	for i := range c.gaps {
		g := &c.gaps[i]
		if int32(serial-g.first) < 0 || int32(g.last-serial) < 0 {
			continue
		}
		switch {
		case g.first == g.last:
			c.gaps = slices.Delete(c.gaps, i, i+1)
		case serial == g.first:
			g.first++
		case serial == g.last:
			g.last--
		default:
			rest := *g
			g.last, rest.first = serial-1, serial+1
			c.gaps = slices.Insert(c.gaps, i+1, rest)
		}
		return
	}
}

// decide calls fn with each gap that will not be filled any more.
func (c *chain) decide(received int64, fn func(g *gap)) {
	n := 0
	for n < len(c.gaps) {
		g := &c.gaps[n]
		if len(c.gaps)-n <= maxGaps && int32(c.last-g.last) < lateSerials && received-g.found < lateMs {
			break
		}
		fn(g)
		n++
	}
	c.gaps = slices.Delete(c.gaps, 0, n)
}
