package hold

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// Where several collectors keep their events in one place, any of them drops what none has on hold. So each tells the others what holds a part at it, in full: a host's records may
// count as another one's, which only its own collector knows.

// share is what a collector tells the others.
type share struct {
	Holds []string `json:"holds"`
	// Hosts are those whose records count as those of a host on hold. Where they are not known, AnyHost: no collector runs that knows them, and a hold on a host is one on all.
	Hosts   []string `json:"hosts,omitempty"`
	AnyHost bool     `json:"any_host,omitempty"`
}

// Share tells other collectors what is on hold, unless they know it. A list that cannot be believed is not told: what it was before stays.
func (k *Keep) Share(ctx context.Context) error {
	if k.shared == nil || k.set.Broken() != nil {
		return nil //nolint:nilerr // it is said where everything is on hold
	}
	text, err := k.text()
	if err == nil {
		err = k.shared.ShareHolds(ctx, text)
	}
	if err != nil {
		return fmt.Errorf("other collectors do not know of it yet, and may drop what is on hold: %w", err)
	}
	return nil
}

func (k *Keep) text() (string, error) {
	list := k.set.List()
	if len(list) == 0 {
		return "", nil
	}
	var s share
	var also map[string]string
	if k.also != nil {
		also = k.also()
	}
	s.AnyHost = also == nil
	for i := range list {
		h := &list[i]
		s.Holds = append(s.Holds, h.What)
		for _, name := range slices.Sorted(maps.Keys(also)) {
			if h.OfHost(also[name]) && !slices.Contains(s.Hosts, name) {
				s.Hosts = append(s.Hosts, name)
			}
		}
	}
	b, err := json.Marshal(s)
	return string(b), err
}

// WhyOthers returns why a part is on hold by what other collectors tell, "" when it is not. What cannot be read holds all.
func (k *Keep) WhyOthers(ctx context.Context, p *store.PartStats, others map[string]string) string {
	var of hostsOf
	for _, id := range slices.Sorted(maps.Keys(others)) {
		var s share
		if err := json.Unmarshal([]byte(others[id]), &s); err != nil {
			return fmt.Sprintf("what the collector of the store %s has on hold cannot be read: %v", id, err)
		}
		for _, what := range s.Holds {
			h := &Hold{What: what}
			if s.AnyHost && h.IsHost() || k.holds(ctx, h, p, &of, func(names []string) []string { return names }) || h.IsHost() && of.any(s.Hosts) {
				return fmt.Sprintf("%s, by the collector of the store %s", what, id)
			}
		}
	}
	return ""
}
