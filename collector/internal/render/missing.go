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

	// The nearest name is one of so many of the newest events at least, and where the last so many days have no more, of all.
	missingEvents = 10_000
	missingDays   = 10_000
)

// notes returns a note for each name that q asks for and that no record of the store has.
// Hosts are those that the collector knows, and else looked for; for other names the store is searched, and the nearest ones are of its newest events.
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
	if !tellSeen(ctx, src, q, memory, m) || !m.Done() && !tellNear(ctx, src, memory, m, fields) {
		return nil
	}
	return m.Notes()
}

// tellSeen tells m of the names that a record has, by a search for one event each: an index says at once that there is none. It says whether it
// could find out.
func tellSeen(ctx context.Context, src api.Source, of *query.Query, memory *query.Memory, m *search.Missing) bool {
	var x query.Extractor
	for _, f := range m.Filters() {
		err := src.Scan(ctx, &query.Query{Filters: []query.Filter{f}, Limit: 1, Fleet: of.Fleet, Memory: memory}, func(ev *event.Event) error {
			x.Index(ev, m.Value)
			return query.ErrStop
		})
		if err != nil {
			return false
		}
	}
	return true
}

// tellNear tells m of the names that the newest events have, by days and by twice as many each time, until these are some: to look at all would
// take as long as there is stored. It says whether it could.
func tellNear(ctx context.Context, src api.Source, memory *query.Memory, m *search.Missing, fields []query.Field) bool {
	var x query.Extractor
	today := time.Now().UTC().Truncate(24 * time.Hour)
	for days := 0; ; days = max(1, 2*days) {
		q := &query.Query{Names: true, Memory: memory}
		if days < missingDays {
			q.StartMs = today.AddDate(0, 0, -days).UnixMilli()
		}
		read := 0
		sum, err := src.Tally(ctx, q, fields, func(ev *event.Event) error {
			read++
			x.Index(ev, m.Value)
			return nil
		})
		if err != nil {
			return false
		}
		for _, f := range fields {
			sum.Of(f).Each(func(v string, _ int64) { m.Value(f, []byte(v)) })
		}
		if q.StartMs == 0 || sum.Events+int64(read) >= missingEvents {
			return true
		}
	}
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
