package several

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/auditfleet/auditfleet/proto/fleet"
)

// Has is that a collector has records of a host.
type Has struct {
	Collector string
	Host      *fleet.Host
}

// Hosts implements api.Source: of a host that several collectors know, numbers are added up, and what
// is said of its state is the latest.
func (s *Source) Hosts(ctx context.Context) ([]*fleet.Host, error) {
	all, err := s.HostsOfEach(ctx)
	return Hosts(all), err
}

// Hosts makes one of what collectors know of each host, by name.
func Hosts(all map[string][]Has) (out []*fleet.Host) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, oneHost(all[name]))
	}
	return out
}

// HostsOfEach returns which collectors know each host, by the host's name: that which heard of it last comes
// first.
func (s *Source) HostsOfEach(ctx context.Context) (map[string][]Has, error) {
	members := s.asked()
	lists := make([][]*fleet.Host, len(members))
	var asking sync.WaitGroup
	for i, m := range members {
		asking.Go(func() {
			err := s.call(ctx, m, func(ctx context.Context) (err error) {
				lists[i], err = m.src.Hosts(ctx)
				return err
			})
			if err != nil && ctx.Err() == nil {
				s.fail(m, Failure{Err: err})
			}
		})
	}
	asking.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	all := map[string][]Has{}
	for i, list := range lists {
		for _, h := range list {
			all[string(h.GetName())] = append(all[string(h.GetName())], Has{members[i].name, h})
		}
	}
	for _, has := range all {
		slices.SortStableFunc(has, func(a, b Has) int {
			return cmp.Compare(b.Host.GetLastSeenMs(), a.Host.GetLastSeenMs())
		})
	}
	return all, s.none()
}

// oneHost puts together what collectors know of a host; has begins with that which heard of it last.
func oneHost(has []Has) *fleet.Host {
	if len(has) == 1 {
		return has[0].Host
	}
	newest := has[0].Host
	out := &fleet.Host{Name: newest.GetName(), LastSeenMs: newest.GetLastSeenMs(), Said: newest.GetSaid()}
	rate, rated := 0.0, false
	for _, x := range has {
		h := x.Host
		out.Records += h.GetRecords()
		out.Bytes += h.GetBytes()
		out.Duplicates += h.GetDuplicates()
		out.Unparsable += h.GetUnparsable()
		out.Lost += h.GetLost()
		out.Mismatched += h.GetMismatched()
		if first := h.GetFirstSeenMs(); out.FirstSeenMs == 0 || first != 0 && first < out.FirstSeenMs {
			out.FirstSeenMs = first
		}
		if h.GetLastEventMs() > out.LastEventMs || out.LagMs == nil {
			out.LagMs = h.LagMs
		}
		out.LastEventMs = max(out.LastEventMs, h.GetLastEventMs())
		out.VerifiedMs = max(out.VerifiedMs, h.GetVerifiedMs())
		out.Connected = out.Connected || h.GetConnected()
		if h.Rate != nil {
			rate, rated = rate+h.GetRate(), true
		}
		if len(out.Also) == 0 {
			out.Also = h.GetAlso()
		}
		if h.GetSaid().GetAtMs() > out.GetSaid().GetAtMs() {
			out.Said = h.GetSaid()
		}
		for _, a := range h.GetAddresses() {
			if !slices.Contains(out.Addresses, a) {
				out.Addresses = append(out.Addresses, a)
			}
		}
		for _, what := range h.GetHolds() {
			if !slices.ContainsFunc(out.Holds, func(other []byte) bool { return bytes.Equal(other, what) }) {
				out.Holds = append(out.Holds, what)
			}
		}
	}
	if rated {
		out.Rate = &rate
	}
	return out
}
