package hold

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// Keep answers, for retention, whether a part of a store is on hold. Any number of goroutines may
// call its methods.
type Keep struct {
	set    *Set
	events Hosts
	also   func() map[string]string
	shared store.Shared // what other collectors drop, too; nil: none do

	mu    sync.Mutex // guards hosts
	hosts map[store.Part]known
}

// Hosts says whose events a part of a store has.
type Hosts interface {
	PartHosts(ctx context.Context, part store.Part, fn func(host string)) error
}

// known is what was found out of a part.
type known struct {
	// Its last batch then, and how many events it had: those of other collectors have numbers of their own.
	last, events uint64
	names        []string
}

// NewKeep returns the holds of set on what events has. also returns, by host, the one that its records
// count as, too (hosts --reattribute); nil: that is not known.
func NewKeep(set *Set, events Hosts, also func() map[string]string) *Keep {
	k := &Keep{set: set, events: events, also: also, hosts: map[store.Part]known{}}
	if s, err := store.Able[store.Sharing](events, "share holds"); err == nil {
		k.shared = s.Shared()
	}
	return k
}

// Guard has what is shared be dropped only where no other collector has it on hold, as that is right before.
func (k *Keep) Guard() {
	if k.shared != nil {
		k.shared.HoldBy(k.WhyOthers)
	}
}

// Why returns why a part is on hold, "" when it may be dropped. Where it cannot be told whose events
// are in it, and a host is on hold, it is on hold.
func (k *Keep) Why(ctx context.Context, p *store.PartStats) string {
	if err := k.set.Broken(); err != nil {
		return fmt.Sprintf("everything is on hold: %v", err)
	}
	var of hostsOf
	for _, h := range k.set.List() {
		if k.holds(ctx, &h, p, &of, k.withAlso) {
			return h.What
		}
	}
	if k.shared == nil {
		return ""
	}
	others, err := k.shared.OthersHolds(ctx)
	if err != nil {
		return fmt.Sprintf("what other collectors have on hold is not known: %v", err)
	}
	return k.WhyOthers(ctx, p, others)
}

// Holds reports whether one hold is on a part.
func (k *Keep) Holds(ctx context.Context, h *Hold, p *store.PartStats) bool {
	return k.holds(ctx, h, p, &hostsOf{}, k.withAlso)
}

// hostsOf are the hosts of a part, found out once for all holds.
type hostsOf struct {
	known bool
	names []string // that it has events of, and what those of them count as, too
	err   error
}

// any reports whether one of some hosts may be in it.
func (o *hostsOf) any(hosts []string) bool {
	return slices.ContainsFunc(o.names, func(name string) bool { return slices.Contains(hosts, name) })
}

// holds reports whether a hold is on a part; also adds to its hosts what those count as, too.
func (k *Keep) holds(ctx context.Context, h *Hold, p *store.PartStats, of *hostsOf, also func([]string) []string) bool {
	if !h.IsHost() {
		return h.ofPart(p)
	}
	if !of.known {
		of.known = true
		if of.names, of.err = k.namesOf(ctx, p); of.err == nil {
			of.names = also(of.names)
		}
	}
	// "" has the events of many hosts, which are not told apart.
	return of.err != nil || slices.ContainsFunc(of.names, func(name string) bool { return name == "" || h.OfHost(name) })
}

// ofPart reports whether a hold is on a day on which a part's events were received, or may have happened as far as its place says it.
func (h *Hold) ofPart(p *store.PartStats) bool {
	if p.Imported && p.Events > 0 && h.OfDays(store.DayOf(time.UnixMilli(p.MinMs)), store.DayOf(time.UnixMilli(p.MaxMs))) {
		return true
	}
	return h.OfDays(min(p.Day, p.Received), max(p.Day, p.Received))
}

// withAlso adds to hosts those that their records count as, too.
func (k *Keep) withAlso(names []string) []string {
	if k.also == nil {
		return names
	}
	also := k.also()
	if len(also) == 0 {
		return names
	}
	names = slices.Clone(names) // others have them, too
	for _, name := range names {
		if to := also[name]; to != "" {
			names = append(names, to)
		}
	}
	return names
}

// namesOf returns the hosts that have events in a part.
func (k *Keep) namesOf(ctx context.Context, p *store.PartStats) ([]string, error) {
	k.mu.Lock()
	was, ok := k.hosts[p.Part]
	k.mu.Unlock()
	if ok && was.last == p.LastID && was.events == p.Events {
		return was.names, nil
	}
	now := known{last: p.LastID, events: p.Events}
	seen := map[string]bool{}
	err := k.events.PartHosts(ctx, p.Part, func(host string) {
		if !seen[host] {
			seen[host] = true
			now.names = append(now.names, host)
		}
	})
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.hosts[p.Part] = now
	return now.names, nil
}

// Forget lets go of what is known of parts that are no longer there.
func (k *Keep) Forget(there []store.PartStats) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.hosts) <= len(there) {
		return
	}
	is := map[store.Part]bool{}
	for i := range there {
		is[there[i].Part] = true
	}
	for p := range k.hosts {
		if !is[p] {
			delete(k.hosts, p)
		}
	}
}
