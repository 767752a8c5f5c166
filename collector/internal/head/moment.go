package head

import (
	"context"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// moment is what lies in memory at one moment. Every event is in one of its parts, or in the
// store, for all of it is taken with Head.mu held.
type moment struct {
	tables []momentTable // oldest first
	open   []store.Ref   // events that are not complete, as far as they have come
}

// momentTable is what a table had then.
type momentTable struct {
	id   uint64
	view store.View
}

// withOpen says whether events that are not complete are part of an answer. They have no batch
// yet, and an event that was given must not come again with more records: so they are not where somebody
// goes by batches, from page to page (query.Cursor), from one checkpoint to the next, or for evidence.
func withOpen(q *query.Query) bool {
	return !q.Batches && q.After == nil && (q.AfterBatch == 0 || q.Own)
}

// present takes the moment, with copies of the open events that q may match, if they are asked
// for. h.mu is held.
func (h *Head) present(q *query.Query, open bool) (now moment) {
	if q.Theirs {
		return now
	}
	for _, g := range h.waiting {
		now.tables = append(now.tables, momentTable{g.id, g.table.View()})
	}
	now.tables = append(now.tables, momentTable{h.active.id, h.active.table.View()})
	if !open {
		return now
	}
	var list store.OpenEvents
	for st := range h.openStreams {
		name := st.host.Name
		if st.host == h.mixed {
			name = ""
		}
		if name != "" && !q.WantsNode(name) || !q.IsFrom(st.from) {
			continue
		}
		st.asm.Each(func(ev *event.Event) { list.Add(q, name, ev, st.from) })
	}
	now.open = list.Refs()
	return now
}

// moment returns what lies in memory and a snapshot of the store. The snapshot comes later, so
// nothing is lost in between; what it has of tables is not looked up in them. Where it even has the table that was
// being filled, open events of the moment may be in it: then both are taken anew, at last
// with nothing going on meanwhile.
func (h *Head) moment(ctx context.Context, q *query.Query, open bool) (moment, store.Snapshot, error) {
	for range 3 {
		h.mu.RLock()
		now := h.present(q, open)
		h.mu.RUnlock()
		snap, err := h.events.Snapshot(ctx)
		if err != nil || len(now.open) == 0 || snap.LastID() < now.last() {
			return now, snap, err
		}
		if err := snap.Close(); err != nil {
			return moment{}, nil, err
		}
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	now := h.present(q, open)
	snap, err := h.events.Snapshot(ctx)
	return now, snap, err
}

// last is the ID of the table that was being filled.
func (m *moment) last() uint64 { return m.tables[len(m.tables)-1].id }

// selectFrom are the events that the store does not have yet and that may match; those of
// open ones that equal others come after them.
func (m *moment) selectFrom(q *query.Query, snap store.Snapshot) (refs []store.Ref) {
	for _, t := range m.tables {
		if t.id > max(snap.LastID(), q.AfterBatch) {
			found := t.view.Select(q)
			for i := range found {
				found[i].Batch = t.id
			}
			refs = append(refs, found...)
		}
	}
	return append(refs, m.open...)
}
