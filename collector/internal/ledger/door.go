package ledger

// What the collector itself knows of a host beside its records: connections, and what it refused
// or dropped. Times are of the collector's clock.

// Connected notes that the host has a connection from a time on.
func (h *Host) Connected(at int64) {
	if h.down != 0 && at > h.down {
		h.enter(Disconnected, h.down, at, 0, at)
	}
	if h.up == 0 {
		h.up = at
	}
	h.down = 0
}

// Disconnected notes that the host has no connection from a time on.
func (h *Host) Disconnected(at int64) {
	if h.down == 0 {
		h.down = at
	}
	h.up = 0
}

// Restarted has a host that was connected have no connection: the collector was started again,
// and last is when the host's last word came.
func (h *Host) Restarted(last int64) {
	if h.up != 0 {
		h.Disconnected(max(h.up, last))
	}
}

// Happened notes something of which the collector knows how often it was: resends, refusals,
// events that were cut short.
func (h *Host) Happened(c Cause, from, to int64, n uint64) { h.enter(c, from, to, n, to) }
