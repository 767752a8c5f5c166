// Package rates averages how many records a second each host sends. The server's wiring
// is the only one to import it; it imports store for what is known of a host.
package rates

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

const (
	// every is how often hosts' records are counted, and span the time over which a
	// rate fades.
	every = 5 * time.Second
	span  = time.Minute
)

// Rates are the hosts' records a second, averaged over about the last minute. Safe for
// use by several goroutines; the zero value knows none.
type Rates struct {
	mu sync.Mutex
	at time.Time        // guarded by mu: of the last count; zero before the first
	by map[string]*rate // guarded by mu
}

type rate struct {
	records uint64 // at the last count
	first   bool   // there is no rate yet
	value   float64
}

// Run counts until ctx ends; hosts is what is known of all hosts at present.
func (r *Rates) Run(ctx context.Context, hosts func() []store.Host) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		r.count(time.Now(), hosts())
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// count takes the present counts. now is of the monotonic clock.
func (r *Rates) count(now time.Time, hosts []store.Host) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, elapsed := r.by, now.Sub(r.at)
	fresh := r.at.IsZero()
	r.at, r.by = now, make(map[string]*rate, len(hosts))
	if elapsed <= 0 && !fresh {
		r.by = before
		return
	}
	weight := 1 - math.Exp(-elapsed.Seconds()/span.Seconds())
	for i := range hosts {
		h := &hosts[i]
		x := before[h.Name]
		switch {
		case x != nil && h.Records >= x.records:
			latest := float64(h.Records-x.records) / elapsed.Seconds()
			if x.first {
				x.value, x.first = latest, false
			} else {
				x.value += (latest - x.value) * weight
			}
		case fresh && x == nil:
			x = &rate{first: true} // what it has sent before nobody knows when
		default: // met since, or met anew after it was forgotten
			x = &rate{value: float64(h.Records) / elapsed.Seconds()}
		}
		x.records = h.Records
		r.by[h.Name] = x
	}
}

// Of is a host's rate, and whether it is known.
func (r *Rates) Of(host string) (float64, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	x := r.by[host]
	if x == nil || x.first {
		return 0, false
	}
	return x.value, true
}
