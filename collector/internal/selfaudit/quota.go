package selfaudit

import (
	"net/netip"
	"time"
)

// Strangers can connect and be refused as often as they like, and must not fill the disk with
// records of that, nor hide one another: so many of each kind are stored a minute in all, and of
// one address. The metrics count all. A fleet that comes back after a restart connects once a host.
const (
	refusalsPerMinute     = 300
	refusalsPerAddress    = 60
	connectionsPerMinute  = 6000 // beginnings and ends
	connectionsPerAddress = 600
)

// quota is how many records of one kind strangers may cause; guarded by Records.mu.
type quota struct {
	perMinute, perAddress int
	op, log               string // of the record and the line that say how many were omitted

	minute  time.Time // in which they are counted
	stored  int       // in that minute
	byAddr  map[netip.Addr]int
	omitted int         // since that was last said
	say     *time.Timer // says so when the minute is over; nil: nothing was omitted
}

func newQuotas() (refusals, connections *quota) {
	return &quota{perMinute: refusalsPerMinute, perAddress: refusalsPerAddress, op: "refusals-omitted", log: "more connections were refused than are stored as records"},
		&quota{perMinute: connectionsPerMinute, perAddress: connectionsPerAddress, op: "connections-omitted", log: "more connections began and ended than are stored as records"}
}

// stranger stores a record that anybody who can connect causes, unless there were too many
// in this minute.
func (r *Records) stranger(q *quota, typ string, peer netip.AddrPort, format string, args ...any) {
	if r.cfg.Refusing() {
		r.cfg.Metrics.Dropped.Inc()
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mayStore(q, peer.Addr().Unmap()) {
		r.add(typ, format, args...)
	}
}

// mayStore reports whether another record may be stored in this minute; mu is held.
func (r *Records) mayStore(q *quota, addr netip.Addr) bool {
	now := r.cfg.Now()
	if now.Sub(q.minute) >= time.Minute || now.Before(q.minute) {
		q.minute, q.stored = now, 0
		q.byAddr = map[netip.Addr]int{}
	}
	if q.stored >= q.perMinute || q.byAddr[addr] >= q.perAddress {
		r.cfg.Metrics.Omitted.Inc()
		q.omitted++
		if q.say == nil && !r.closed {
			q.say = time.AfterFunc(time.Minute, func() {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.sayOmitted(q)
			})
		}
		return false
	}
	q.stored++
	q.byAddr[addr]++
	return true
}

// sayOmitted stores how many records were not; mu is held.
func (r *Records) sayOmitted(q *quota) {
	if q.say == nil {
		return
	}
	q.say.Stop()
	r.cfg.Log.Warn(q.log, "omitted", q.omitted)
	r.add("DAEMON_ERR", "op=%s connections=%d informative=yes res=success", q.op, q.omitted)
	q.omitted, q.say = 0, nil
}
