package event

// hostClock is what time it is at a host, as its records tell: the latest stamp. The kernel
// gives a system call the time of its begin, so the records of one that took long come with
// an old stamp, between those of others. They neither turn the clock back nor are they late
// when they come.
//
// A clock may have been set back as well. That is so when setBack events in a row began more
// than the timeout behind it; then it is as late as the latest of these.
type hostClock struct {
	ms     int64 // 0: nothing is known
	behind int32 // events in a row that began behind it
	latest int64 // of these
}

// setBack is far more than the slow system calls that end with no other event between them.
const setBack = 128

// see takes the stamp of a record; begins says that it is the first of its event.
func (c *hostClock) see(ms, timeout int64, begins bool) {
	switch {
	case c.ms == 0 || ms > c.ms-timeout:
		c.ms, c.behind, c.latest = max(c.ms, ms), 0, 0
	case begins:
		c.behind, c.latest = c.behind+1, max(c.latest, ms)
		if c.behind >= setBack {
			*c = hostClock{ms: c.latest}
		}
	}
}

// knownNodes is for how many nodes without open events an Assembler remembers the clock: one
// of a collector's is of one sender, which has one name.
const knownNodes = 64

// pass takes the stamp of a record, of the open event o or of one that begins, as the time of
// its node. The event before it came at that time, too, as far as anybody knows.
func (a *Assembler) pass(n *node, ms int64, o *openEvent) {
	n.clock.see(ms, a.timeoutMs, o == nil)
	if before := n.latest; before != nil && before != o {
		a.extend(before)
		n.latest = nil
	}
}

// extend has an open event be late a timeout from now, by its host's clock.
func (a *Assembler) extend(o *openEvent) {
	if due := max(o.ms, o.node.clock.ms) + a.timeoutMs; due > o.due {
		o.due = due
		fix(&o.node.heap, o.heapIndex)
	}
}
