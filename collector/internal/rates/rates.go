// Package rates averages how many records a second each host sends. Only the server's wiring
// imports it; it imports store, for Host, and wake.
package rates

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/wake"
)

const (
	// every is how often the counts are read. span is the time in which the weight of what
	// was measured before falls to 1/e.
	every = 5 * time.Second
	span  = time.Minute
)

// Rates has each host's records a second, averaged over about the last minute. Run is called
// once; any number of goroutines may call Of. The zero value is ready, and knows no host.
type Rates struct {
	mu sync.Mutex       // guards everything below
	at time.Time        // of the last count; zero before the first
	by map[string]*rate // by host
}

// rate is a host's.
type rate struct {
	records uint64  // at the last count
	first   bool    // it was counted once only: there is no rate yet
	value   float64 // records a second
}

// Run reads the hosts' counts every few seconds until ctx ends; hosts returns what is known
// of all hosts.
func (r *Rates) Run(ctx context.Context, hosts func() []store.Host) {
	tick := time.NewTimer(every + wake.In(every)) // of less than every, the first rate would be that of a few records
	defer tick.Stop()
	for {
		r.count(time.Now(), hosts())
		select {
		case <-tick.C:
			tick.Reset(wake.In(every))
		case <-ctx.Done():
			return
		}
	}
}

// count updates the rates by the present counts. now has the monotonic clock's reading.
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
			x = &rate{first: true} // when it sent what is counted so far is not known
		default: // it is new since the last count, or new again after it was forgotten
			x = &rate{value: float64(h.Records) / elapsed.Seconds()}
		}
		x.records = h.Records
		r.by[h.Name] = x
	}
}

// Of returns a host's records a second, and whether they are known.
func (r *Rates) Of(host string) (float64, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	x := r.by[host]
	if x == nil || x.first {
		return 0, false
	}
	return x.value, true
}
