package store

import (
	"slices"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Tally counts the events into sum, and calls rest, in the caller's goroutine, with those that have to be read; see Snapshot.Tally. Those are odd
// events, whose indexed values are not what a report counts, and, under a query for
// nodes, events of the host of mixed nodes. It fails when sum has no more memory.
func (v View) Tally(q *query.Query, fields []query.Field, sum *query.Tally, rest func(*event.Event) error) error {
	hosts, values := v.byName(), v.t.Values()
	counts := make([]int64, len(values))
	m := query.NewMatcher(q)
	var apart [query.NumIndexed]bool
	for _, f := range query.Apart(fields) {
		apart[f] = true
	}
	for i := range hosts {
		h := &hosts[i]
		if h.Name != "" && !q.WantsNode(h.Name) {
			continue
		}
		for k := range h.Events {
			e := &h.Events[k]
			if !InTime(q, e.Ms) || !q.IsFrom(e.From) {
				continue
			}
			ids := h.ValuesOf(k)
			if e.Ms == 0 || h.Name == "" && len(q.Nodes) > 0 || !sum.Placeable(h.Name, e.Ms, e.Ms) ||
				slices.ContainsFunc(ids, func(id uint32) bool { return apart[values[id].Field] }) {
				if ev := ParseText(e.Text, e.Counted, []byte(h.Name), e.Origin); m.Match(ev) {
					if err := rest(ev); err != nil {
						return err
					}
				}
				continue
			}
			sum.Place(h.Name, e.Ms, e.Ms, 1)
			if sum.Combines() {
				sum.AddValues(h.Name, e.Ms, 1, func(keep func(query.Field, []byte)) {
					for _, id := range ids {
						keep(values[id].Field, []byte(values[id].Text))
					}
				})
				continue
			}
			for _, id := range ids {
				counts[id]++
			}
		}
	}
	for id, n := range counts {
		if vs := sum.Of(values[id].Field); vs != nil {
			vs.AddString(values[id].Text, n)
		}
	}
	return sum.Err()
}
