package head

import "github.com/auditfleet/auditfleet/pkg/record"

// sealOps are the records by which a host says that something is wrong with a collector's log, of
// which forwarders are witnesses.
var sealOps = [...]string{"seal-fork", "seal-rewind", "seal-key", "seal-time", "seal-bad"}

// NumSealOps is how many there are.
const NumSealOps = len(sealOps)

// SealOp is the op of the n-th.
func SealOp(n int) string { return sealOps[n] }

// countSeal counts a DAEMON_ERR record that is one of those. mu is held.
func (h *Head) countSeal(r *record.Record) {
	f, ok := r.Get("op")
	if !ok {
		return
	}
	for n, op := range sealOps {
		if string(f.Value) == op {
			h.stats.SealAlarms[n]++
		}
	}
}
