package ledger

import (
	"slices"

	"github.com/auditfleet/auditfleet/pkg/tables"
)

// chain follows the kernel's serials of one boot of a host, as its records come. The kernel numbers
// the events that it makes, so where number follows number nothing was left out on the way.
// Records come nearly in order: a number that is passed over may still come.
type chain struct {
	last    uint32 // the highest seen
	lastMs  int64  // the latest time of an event
	begin   int64  // the time of its first event
	retired bool   // another boot has followed: nothing new is to come
	gaps    []gap  // not decided; by first
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
	// closeBy is how far from the highest a serial may be to be of the chain though its time is
	// not: the kernel numbers a system call when it ends and gives it the time at which it began,
	// which may be hours ago; and clocks are set.
	closeBy = 64
	// leap is how wrong a clock may be that is put right: by a time zone at most.
	leap = 14 * Hour
	// bootSerials is below which numbers a boot begins: the kernel makes some events before there
	// is a daemon.
	bootSerials = 1000
)

// fits reports whether an event can be of the chain's boot, by its serial and its time.
func (c *chain) fits(ms int64, serial uint32) bool {
	d := int32(serial - c.last)
	switch {
	case d > 0 && c.retired:
		return false
	case d >= 0:
		return ms >= c.lastMs-clockSlack
	default:
		return d > -lateSerials && ms <= c.lastMs+clockSlack && ms >= c.lastMs-lateSlack
	}
}

// near reports whether an event is of the chain's boot by its serial alone.
func (c *chain) near(ms int64, serial uint32) bool {
	d := int32(serial - c.last)
	return d >= -closeBy && d <= closeBy && (d <= 0 || !c.retired) && ms >= c.begin-leap
}

// lacks reports whether a serial was passed over.
func (c *chain) lacks(serial uint32) bool {
	return slices.ContainsFunc(c.gaps, func(g gap) bool { return int32(serial-g.first) >= 0 && int32(g.last-serial) >= 0 })
}

// add takes an event's serial, which fits or is near.
func (c *chain) add(ms int64, serial uint32, received int64) {
	d := int32(serial - c.last)
	switch {
	case d == 0: // a further record of the same event
		return
	case d < 0:
		c.fill(serial)
		return
	case d > 1:
		from := c.lastMs
		if ms < from && ms >= from-clockSlack {
			from = ms
		}
		c.gaps = append(c.gaps, gap{c.last + 1, serial - 1, from, max(ms, c.lastMs), received})
	}
	c.last, c.lastMs = serial, max(ms, c.lastMs)
}

// which returns the chain of which an event is; -1: of neither. What continues a chain by serial
// and time goes before what does by one of them.
func (h *Host) which(ms int64, serial uint32) int {
	fits, near := [2]bool{}, [2]bool{}
	for i := range h.chains {
		if fits[0] && near[0] {
			return 0 // nearly always
		}
		if c := &h.chains[i]; h.begun[i] {
			fits[i], near[i] = c.fits(ms, serial), c.near(ms, serial)
		}
	}
	switch old := &h.chains[1]; {
	case fits[0] && near[0]:
		return 0
	case fits[1] && near[1] && (!old.retired || old.lacks(serial)):
		return 1
	case fits[0], near[0]:
		return 0
	case fits[1], near[1]:
		return 1
	}
	return -1
}

// serial takes an event's serial.
func (h *Host) serial(ms int64, serial uint32, received int64) {
	if serial == 0 && !(h.begun[0] && h.chains[0].last >= 1<<31) { // no serial, unless they begin anew
		return
	}
	if c := &h.chains[0]; serial == c.last && ms == c.lastMs && h.begun[0] && h.daemon == 0 {
		return // a further record of the latest event: most are
	}
	ms = believed(ms, received)
	said := h.daemon
	h.daemon = 0
	if said&daemonStarted != 0 && h.restarted(said, ms, serial, received) {
		return
	}
	if i := h.which(ms, serial); i >= 0 {
		c := &h.chains[i]
		gaps := len(c.gaps)
		c.add(ms, serial, received)
		switch {
		case said&(daemonStarted|daemonBehind) == 0:
		case len(c.gaps) > gaps: // made for nobody, whatever the clock says
			c.gaps[gaps].from = min(c.gaps[gaps].from, h.parted)
		case i == 0 && ms < c.lastMs:
			h.behind(ms, received)
		}
		if len(c.gaps) > 0 {
			h.decide(i, received)
		}
		return
	}
	// The first, or another boot: what was the present one is kept for what still comes of it.
	if h.begun[0] && ms < h.chains[0].lastMs { // an old log beside a live host
		h.over(received)
		h.chains[1], h.begun[1], h.since[1] = chain{last: serial, lastMs: ms, begin: ms}, true, ms
		return
	}
	h.newBoot(ms, serial, received)
}

// behind takes an event that follows a daemon's start, number by number, where the clock was set back, so that the time of the chain
// does not get here: as far as the events have come since the daemon before it spoke last, nothing is missing.
func (h *Host) behind(ms, received int64) {
	h.daemon = daemonBehind
	if ms > h.parted {
		h.spread(h.parted, ms, received, (*Row).chained)
		h.parted = ms
	}
}

// over ends the second chain: of what was passed over nothing will come.
func (h *Host) over(received int64) {
	h.flush(1, received)
	for _, g := range h.chains[1].gaps {
		h.gap(&g, received)
	}
}

// newBoot begins the chain of a boot.
func (h *Host) newBoot(ms int64, serial uint32, received int64) {
	h.flush(0, received)
	h.over(received)
	h.chains[1], h.begun[1], h.since[1] = h.chains[0], h.begun[0], h.since[0]
	h.chains[1].retired = true
	h.chains[0], h.begun[0], h.since[0] = chain{last: serial, lastMs: ms, begin: ms}, true, ms
}

// What a daemon has said of itself since the kernel's latest event.
const (
	daemonEnded   = 1 << iota // DAEMON_END
	daemonStarted             // DAEMON_START
	daemonBooted              // and before that, that the host shuts down
	daemonBehind              // not since, but numbers follow each other since it started, by a clock that is behind the chain's
)

// says takes what a daemon says of itself. It is asked before anything forgets that the host
// shuts down. What is of before the present boot is an old log's, unless a forwarder had spoken by then: the boot may have begun with a
// clock that was ahead.
func (h *Host) says(typ uint16, ms int64) {
	present := func(ms int64) bool {
		return h.begun[0] && (ms >= h.chains[0].begin || h.run.Run != "" && ms >= h.run.Last)
	}
	switch {
	case typ == tables.DaemonEnd && present(ms):
		h.daemon = daemonEnded
	case typ != tables.DaemonStart:
		return
	case present(h.vital.Shut): // whatever its clock is as it boots
		h.daemon |= daemonStarted | daemonBooted
	case h.daemon != 0 || present(ms):
		h.daemon |= daemonStarted
	}
	if h.parted = ms; h.run.Run != "" {
		h.parted = min(ms, h.run.Last)
	}
}

// restarted takes the first event after a daemon's start, and reports whether it is of another
// boot.
func (h *Host) restarted(said uint8, ms int64, serial uint32, received int64) bool {
	c := &h.chains[0]
	if other := &h.chains[1]; h.begun[1] && !other.retired && other.near(ms, serial) && !c.near(ms, serial) {
		c = other // it had booted with a clock that is behind
	}
	d := int32(serial - c.last)
	booted := said&daemonBooted != 0
	switch {
	case d < -closeBy, booted && (d < 0 || serial < bootSerials):
		last := c.lastMs
		if booted && last < ms {
			h.enter(Off, last, ms, 0, received)
		}
		h.newBoot(ms, serial, received)
		return true
	case d == 2 && said&daemonEnded != 0:
		c.last++ // of a daemon that leaves, the kernel makes one event, which nobody gets
	}
	return false
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
