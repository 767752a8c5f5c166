package selfaudit

import (
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/listen"
)

// refusalsPerSecond bounds how many refusals are stored: whoever knocks in a loop must
// not fill the disk. All are counted.
const refusalsPerSecond = 50

// refusals bounds the records of connections that were refused.
type refusals struct {
	second  time.Time // in which they are counted
	stored  int       // in that second, of refusalsPerSecond
	omitted int       // since the last one that was stored
}

// Connection is a connection's begin, refusal or end.
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

// mayRefuse says whether another refusal may be stored, and the log how many were not.
// mu is held.
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
