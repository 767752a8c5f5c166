package madeday

import "fmt"

// Loss is something that a host lost on purpose.
type Loss struct {
	Host  *Host
	Cause string // as coverage has it
	N     uint64 // records; of serial-gap, events
	what  string
}

func (l *Loss) String() string { return fmt.Sprintf("%s lost %d by %s", l.Host.Name, l.N, l.what) }

// Hop is where it was lost, as coverage has it.
func (l *Loss) Hop() string {
	return map[string]string{"not-received": "transport", "kernel": "kernel", "other": "host", "spool-full": "spool", "serial-gap": "host"}[l.Cause]
}

// Losses are the ways in which a host can lose records.
func (h *Host) Losses() []string {
	if h.Kind == Stock {
		return []string{"serial-gap"}
	}
	if h.Kind == Plugin {
		return []string{"not-received", "other", "spool-full", "killed"}
	}
	return []string{"not-received", "kernel", "other", "spool-full", "killed"}
}

// Calm reports whether nothing is planned on the host around the present time that would hide or add to
// a loss: it is up and connected.
func (d *Day) Calm(h *Host) bool {
	if h.off != 0 || h.wrong > 0 || h.cut > d.minute || d.minute < 3 || d.minute > d.cfg.Minutes-10 {
		return false
	}
	for m := d.minute - 3; m < d.minute+8; m++ {
		if h.plan[m] != nil {
			return false
		}
	}
	return true
}

// Lose has a host that is calm lose some records in a way.
func (d *Day) Lose(h *Host, how string) *Loss {
	n := 1 + h.rnd.IntN(9)
	l := &Loss{Host: h, Cause: how, N: uint64(n), what: how}
	h.now = maxTime(h.now, d.Now())
	h.stir = 5
	switch how {
	case "not-received": // the link lost records that were acknowledged
		h.index += uint64(n)
		h.handed += n
	case "kernel":
		h.lost += n
		h.ownRecord("DAEMON_ERR op=lost-records cause=kernel records=%d first=%s last=%s auid=4294967295 pid=77 res=failed", n, stamp(h.clock()), stamp(h.clock()))
	case "other": // and what said so was lost, too
		h.lost += n
	case "spool-full":
		h.lost, h.dropped, h.handed = h.lost+n, h.dropped+n, h.handed+n
		h.ownRecord("DAEMON_ERR op=lost-records cause=spool-full records=%d first=%s last=%s auid=4294967295 pid=77 res=failed", n, stamp(h.clock()), stamp(h.clock()))
	case "killed": // the daemon dies, and the kernel keeps nothing for it
		if h.Kind == Plugin && n == 1 { // one event is what the kernel makes of a daemon that leaves
			n, l.N = 2, 2
		}
		h.serial += uint32(n)
		h.startDaemon()
		l.Cause = "serial-gap"
	case "serial-gap":
		h.get(h.work())
		h.serial += uint32(n)
	}
	return l
}
