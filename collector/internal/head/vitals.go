package head

import (
	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// Vitals is how a host stands now.
type Vitals struct {
	store.Host // Addrs must not be changed
	ledger.Vitals
	// Own says that it is the collector itself, Mixed that it stands for all hosts that have no
	// place of their own.
	Own, Mixed bool
	// Twins is how many signs there were, since the start, that two hosts have the name.
	Twins uint64
}

// vitalsAtOnce is how many hosts are copied while records wait: some ten microseconds.
const vitalsAtOnce = 128

// EachVitals calls fn with how each host stands, in no order. fn must not keep v. It holds up
// records for some hosts' copying at a time.
func (h *Head) EachVitals(fn func(v *Vitals)) {
	h.mu.RLock()
	list := make([]*host, 0, len(h.hosts))
	for _, x := range h.hosts {
		list = append(list, x)
	}
	mixed := h.mixed
	h.mu.RUnlock()
	some := make([]Vitals, 0, vitalsAtOnce)
	for len(list) > 0 {
		n := min(len(list), vitalsAtOnce)
		some = some[:0]
		h.mu.RLock()
		for _, x := range list[:n] {
			if h.hosts[x.Name] != x {
				continue // it was forgotten
			}
			v := Vitals{Host: x.Host, Own: len(x.Addrs) == 0 && x.Verified.IsZero(), Mixed: x == mixed, Twins: x.twins}
			if x.ledger != nil {
				v.Vitals = x.ledger.Vitals()
			}
			some = append(some, v)
		}
		h.mu.RUnlock()
		list = list[n:]
		for i := range some {
			fn(&some[i])
		}
	}
}
