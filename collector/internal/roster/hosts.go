package roster

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/several"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// list reads who is there and what each has of hosts.
func (r *Roster) list(ctx context.Context) ([]store.Member, []store.MemberHost, error) {
	members, err := r.members(ctx)
	if err != nil {
		return nil, nil, err
	}
	hosts, err := r.cfg.Roster.MemberHosts(ctx, "")
	return members, hosts, err
}

// Hosts implements api.Source: the hosts of all collectors, each with who has received from it. What others have is as they wrote it last.
func (r *Roster) Hosts(ctx context.Context) ([]*fleet.Host, error) {
	own, err := r.cfg.Own.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	members, theirs, err := r.list(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		api.Lacks(ctx, api.Lack{Collector: "(all others of the cluster)", Err: err})
		return own, nil
	}
	called := names(members)
	state := map[string]string{}
	for i := range members {
		state[members[i].Store] = r.state(&members[i])
	}
	all := map[string][]several.Has{}
	at := map[string][]*fleet.HostAt{}
	add := func(member string, h *fleet.Host, received, stored uint64) {
		name := string(h.GetName())
		all[name] = append(all[name], several.Has{Collector: called[member], Host: h})
		at[name] = append(at[name], &fleet.HostAt{Collector: called[member], LastSeenMs: h.GetLastSeenMs(), Received: received, Stored: stored, Connected: h.GetConnected()})
	}
	standings, _ := r.cfg.Standings()
	stored := map[string]uint64{}
	for _, s := range standings {
		stored[s.Host] = s.Stored
	}
	called[r.cfg.Self.Store] = cmp.Or(called[r.cfg.Self.Store], r.cfg.Self.Name)
	for _, h := range own {
		n, known := stored[string(h.GetName())]
		if !known { // right behind a start
			n = h.GetRecords()
		}
		add(r.cfg.Self.Store, h, h.GetRecords(), min(n, h.GetRecords()))
	}
	for i := range theirs {
		x := &theirs[i]
		if x.Store == r.cfg.Self.Store {
			continue
		}
		h := &fleet.Host{}
		if err := proto.Unmarshal(x.Data, h); err != nil {
			api.Lacks(ctx, api.Lack{Collector: called[x.Store], Part: true, Err: fmt.Errorf("%w: what it says of the host %.200q: %w", store.ErrDamaged, x.Host, err)})
			continue
		}
		h.Name = []byte(x.Host)
		h.Connected = h.GetConnected() && asks(state[x.Store])
		add(x.Store, h, x.Received, x.Stored)
	}
	for name, has := range all {
		newest := func(a, b int64) int { return cmp.Compare(b, a) }
		slices.SortStableFunc(has, func(a, b several.Has) int { return newest(a.Host.GetLastSeenMs(), b.Host.GetLastSeenMs()) })
		slices.SortStableFunc(at[name], func(a, b *fleet.HostAt) int { return newest(a.GetLastSeenMs(), b.GetLastSeenMs()) })
	}
	out := several.Hosts(all)
	for _, h := range out {
		h.At = at[string(h.GetName())]
	}
	slices.SortFunc(out, func(a, b *fleet.Host) int { return bytes.Compare(a.GetName(), b.GetName()) })
	return out, nil
}

// Collectors implements api.Cluster.
func (r *Roster) Collectors(ctx context.Context) ([]*fleet.Collector, error) {
	members, hosts, err := r.list(ctx)
	if err != nil {
		if ctx.Err() == nil { // Hosts has said it
			return nil, nil
		}
		return nil, err
	}
	called := names(members)
	var out []*fleet.Collector
	for i := range members {
		m := &members[i]
		c := r.collector(m, called[m.Store])
		for k := range hosts {
			if h := &hosts[k]; h.Store == m.Store {
				c.Hosts++
				c.Unstored += h.Held()
			}
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b *fleet.Collector) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return out, nil
}

func (r *Roster) collector(m *store.Member, name string) *fleet.Collector {
	c := &fleet.Collector{Name: name, StoreId: m.Store, Address: m.Address, Version: m.Version, SeenMs: m.Said(), State: r.state(m), Self: m.Store == r.cfg.Self.Store}
	if m.Lost != 0 {
		c.LostMs = m.Said() + 1
	}
	return c
}

// Forget implements api.Cluster.
func (r *Roster) Forget(ctx context.Context, name string) (*fleet.Collector, []*fleet.HostLoss, error) {
	members, err := r.members(ctx)
	if err != nil {
		return nil, nil, err
	}
	m, err := find(members, name)
	if err != nil {
		return nil, nil, err
	}
	called := names(members)[m.Store]
	switch r.state(m) {
	case running:
		return nil, nil, fmt.Errorf("%w that is gone: %s runs, and was heard of at %s; stop it first, and wait for half a minute", api.ErrNoCollector, called, time.UnixMilli(m.Taken).UTC().Format(time.RFC3339))
	case unheard:
		return nil, nil, fmt.Errorf("%w that is known to be gone: this collector has not looked for half a minute yet whether %s writes; ask again then", api.ErrNoCollector, called)
	}
	if m.Lost == 0 {
		if r.answers(ctx, m, r.wait) {
			return nil, nil, fmt.Errorf("%w that is gone: %s answers at %s, though it cannot write to the cluster; stop it first", api.ErrNoCollector, called, m.Address)
		}
		m.Lost = m.At + 1 // its next word undoes it
		if err := r.cfg.Roster.Lose(ctx, m.Store, m.Lost); err != nil {
			return nil, nil, err
		}
	}
	losses, err := r.losses(ctx, m.Store)
	if err != nil {
		return nil, nil, err
	}
	var out []*fleet.HostLoss
	for host, l := range losses {
		out = append(out, &fleet.HostLoss{Host: []byte(host), Records: l.records})
	}
	slices.SortFunc(out, func(a, b *fleet.HostLoss) int { return bytes.Compare(a.GetHost(), b.GetHost()) })
	return r.collector(m, called), out, nil
}

// loss is what a collector had of a host and did not store.
type loss struct {
	records  uint64
	from, to int64 // they came within, by the clock of the cluster's servers
}

// losses returns what of each host a collector had received and is not in the cluster. What it received and stored it wrote last for
// some moment; what it stored behind that is counted.
func (r *Roster) losses(ctx context.Context, member string) (map[string]loss, error) {
	hosts, err := r.cfg.Roster.MemberHosts(ctx, member)
	if err != nil {
		return nil, err
	}
	// Each was written at a moment of its own, but what is behind the earliest is only counted where that is the host's.
	since := map[uint64]map[string]uint64{}
	out := map[string]loss{}
	for i := range hosts {
		h := &hosts[i]
		if h.Held() == 0 {
			continue
		}
		if since[h.Batch] == nil {
			if since[h.Batch], err = r.cfg.Roster.Behind(ctx, member, h.Batch); err != nil {
				return nil, err
			}
		}
		if n := h.Held(); n > since[h.Batch][h.Host] {
			out[h.Host] = loss{n - since[h.Batch][h.Host], h.Taken - h.Age, h.Taken}
		}
	}
	return out, nil
}
