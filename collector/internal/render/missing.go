package render

import (
	"context"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/search"
)

// Bounds of what a search that found nothing may cost beside, to say whether a store has the
// names that it asked for. Beyond them it says nothing.
const (
	missingTime   = 3 * time.Second
	missingMemory = 32 << 20
)

// notes returns a note for each name that q asks for and that no record of the store has.
// Hosts are those that the collector knows, and else looked for; other names are read from the index.
func notes(ctx context.Context, src api.Source, q *query.Query) []string {
	m := search.MissingOf(q)
	if m == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, missingTime)
	defer cancel()
	memory := query.NewMemory(missingMemory, q.Memory)
	defer memory.Release()
	if len(q.Nodes) > 0 {
		hosts, err := src.Hosts(ctx)
		if err != nil {
			return nil // it is no more than advice
		}
		for _, h := range hosts {
			m.Host(h.GetName())
			m.Host(h.GetAlso())
		}
		if !tellUnlisted(ctx, src, memory, m) {
			return nil
		}
	}
	noteClaims(ctx, src, memory, m)
	wanted := m.Fields()
	if len(wanted) == 0 {
		return m.Notes()
	}
	fields := make([]query.Field, 0, 2*len(wanted))
	for _, f := range wanted {
		fields = append(fields, f, f.Other())
	}
	var x query.Extractor
	sum, err := src.Tally(ctx, &query.Query{Memory: memory}, fields, func(ev *event.Event) error {
		x.Index(ev, m.Value)
		return nil
	})
	if err != nil {
		return nil
	}
	for _, f := range fields {
		sum.Of(f).Each(func(v string, _ int64) { m.Value(f, []byte(v)) })
	}
	return m.Notes()
}

// tellUnlisted tells m of hosts that have records and are not on the list: those beyond
// max_hosts, and forgotten ones. It says whether it could find out.
func tellUnlisted(ctx context.Context, src api.Source, memory *query.Memory, m *search.Missing) bool {
	wanted := m.MissingHosts()
	if len(wanted) == 0 {
		return true
	}
	sum, err := src.Tally(ctx, &query.Query{Nodes: wanted, Memory: memory}, []query.Field{query.FieldNode}, func(ev *event.Event) error {
		m.Host(ev.Node)
		return nil
	})
	if err != nil {
		return false
	}
	sum.Of(query.FieldNode).Each(func(name string, _ int64) { m.Host([]byte(name)) })
	return true
}

// noteClaims tells m of the names that records claim which are kept under another host's.
func noteClaims(ctx context.Context, src api.Source, memory *query.Memory, m *search.Missing) {
	if len(m.MissingHosts()) == 0 {
		return
	}
	claimed := func(ev *event.Event) error {
		if name := ev.Claim(); name != nil {
			m.Claim(name)
		}
		return nil
	}
	sum, err := src.Tally(ctx, &query.Query{Memory: memory}, []query.Field{query.FieldClaim}, claimed)
	if err != nil {
		return // it is no more than advice
	}
	sum.Of(query.FieldClaim).Each(func(name string, _ int64) { m.Claim([]byte(name)) })
}
