package head

import (
	"context"
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// ChangeHosts makes a change and has it stored. It returns the names of the hosts
// that were forgotten.
func (h *Head) ChangeHosts(ctx context.Context, c *store.Change) ([]string, error) {
	h.mu.Lock()
	var known []store.Host
	for _, x := range h.hosts {
		known = append(known, x.info())
	}
	forget, changed, err := c.Resolve(known)
	if err != nil {
		h.mu.Unlock()
		return nil, err
	}
	for _, name := range forget {
		h.forgetHost(h.hosts[name])
	}
	for _, info := range changed {
		x := h.hosts[info.Name]
		if x == nil {
			h.unnamed++
			x = h.newHost(store.Host{Name: info.Name})
			x.sender = true
		}
		x.Also = info.Also
		h.touch(x)
	}
	h.changed = true
	h.mu.Unlock()
	return forget, h.Flush(ctx)
}

// forgetHost lets go of a host; h.mu is held. Events of it that are open end as they
// would have.
func (h *Head) forgetHost(x *host) {
	delete(h.hosts, x.Name)
	h.dirty = slices.DeleteFunc(h.dirty, func(d *host) bool { return d == x })
	h.entered = slices.DeleteFunc(h.entered, func(d *host) bool { return d == x })
	x.entered = true // for good, too
	if x.ledger != nil {
		if rows := x.ledger.Take(h.opts.Now().UnixMilli()); len(rows) > 0 { // its records stay, so does what is known of them
			h.farewell = append(h.farewell, store.HostLedger{Host: x.Name, Rows: rows})
		}
	}
	h.forgotten = append(h.forgotten, x.Name)
	x.dirty = true // for good: it is not stored again
	switch {
	case x == h.mixed:
		h.mixed = nil
	case !x.Verified.IsZero(): // is not counted
		h.proved.remove(x.Name)
	case x.sender:
		h.unnamed--
	default:
		h.named--
	}
	if h.lastHost == x {
		h.lastHost = nil
	}
	if h.trustedHost == x {
		h.trustedHost = nil
	}
}

// also adds to the hosts that a query wants the senders whose records are theirs, too.
func (h *Head) also(q *query.Query) *query.Query {
	if len(q.Nodes) == 0 {
		return q
	}
	var more []string
	h.mu.RLock()
	for _, x := range h.hosts {
		if x.Also != "" && q.WantsNode(x.Also) {
			more = append(more, x.Name)
		}
	}
	h.mu.RUnlock()
	if len(more) == 0 {
		return q
	}
	out := *q
	out.Nodes = append(slices.Clone(q.Nodes), more...)
	return &out
}
