package selfaudit

import (
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/listen"
)

// refusalsPerSecond bounds how many refused connections are stored as records: a peer that
// connects in a loop must not fill the disk. The metrics count all.
const refusalsPerSecond = 50

// refusals counts the records of connections that were refused; guarded by Records.mu.
type refusals struct {
	second  time.Time // in which they are counted
	stored  int       // in that second, of refusalsPerSecond
	omitted int       // since the last one that was stored
}

// Connection stores that a connection has begun, was refused or has ended. While senders'
// records are refused it only counts.
func (r *Records) Connection(c listen.Report) {
	if r.cfg.Refusing() {
		r.cfg.Metrics.Dropped.Inc()
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	addr, port := c.Peer.Addr().WithZone(""), c.Peer.Port()
	switch {
	case c.Close:
		r.add("DAEMON_CLOSE", "addr=%s port=%d res=success", addr, port)
	case c.Op == "":
		r.add("DAEMON_ACCEPT", "addr=%s port=%d res=success", addr, port)
	case r.mayRefuse():
		r.add("DAEMON_ACCEPT", "op=%s addr=%s port=%d res=no", c.Op, addr, port)
	}
}

// mayRefuse reports whether another refusal may be stored in this second, and logs how many
// were not stored before; mu is held.
func (r *Records) mayRefuse() bool {
	f, now := &r.refusals, r.cfg.Now()
	if now.Sub(f.second) >= time.Second || now.Before(f.second) {
		f.second, f.stored = now, 0
	}
	if f.stored >= refusalsPerSecond {
		f.omitted++
		return false
	}
	f.stored++
	if f.omitted > 0 {
		r.cfg.Log.Warn("more connections were refused than are stored as records", "omitted", f.omitted)
		f.omitted = 0
	}
	return true
}
