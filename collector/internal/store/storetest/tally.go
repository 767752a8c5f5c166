package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// testTally compares what a tally has counted, together with the events that it has given,
// with the events of a scan.
func testTally(t *testing.T, env Env) {
	s := env.Open(t)
	g := NewGenerator(31, Templates(t), 5, Start)
	for id := uint64(1); id <= 4; id++ {
		tab := store.NewTable()
		Fill(tab, g, need.Size(700, 150))
		if id == 3 { // a host of mixed nodes, and odd events
			for _, raw := range []string{
				"node=web2.example.net type=USER_LOGIN msg=audit(1795334500.000:7): pid=1 uid=0 auid=5 ses=1 msg='op=login exe=\"/a\" exe=\"/b\" res=success'",
				"node=other type=AVC msg=audit(1795334500.500:8): apparmor=\"DENIED\" comm=\"x\" name=\"/n\"",
			} {
				tab.Add("", Parse("", raw))
			}
			for i, values := range []string{"exe=610062 key=63", "exe=61 key=620063", "exe=61 key=(null)", "exe=61 key=01", "exe=01 key=61", "exe=03 key=6103", "exe=0261 key=00", `exe="" key=""`} { // bytes that stand for something between values
				const host = "web1.example.net"
				tab.Add(host, Parse(host, fmt.Sprintf("type=SYSCALL msg=audit(1795334500.600:%d): arch=c000003e syscall=59 success=yes exit=0 pid=1 auid=5 uid=0 ses=1 comm=\"x\" %s", 9+i, values)))
			}
		}
		if err := s.Append(context.Background(), &store.Batch{ID: id, Day: store.DayOf(Start), Events: tab, LSN: id}); err != nil {
			t.Fatal(err)
		}
	}
	s = env.Reopen(t, s)
	st, err := s.Stats(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	everything := readAll(t, s, &query.Query{})
	third := (st.MaxMs - st.MinMs) / 3
	for name, q := range map[string]*query.Query{
		"all":         {},
		"from":        {From: nets("192.0.2.2/32", "192.0.2.9/32")},
		"all whose":   {From: nets("0.0.0.0/0", "::/0")},
		"some time":   {StartMs: st.MinMs + third, EndMs: st.MaxMs - third},
		"until then":  {EndMs: st.MinMs + third},
		"nothing":     {StartMs: st.MaxMs + 1},
		"nodes":       {Nodes: []string{"web1.example.net", "web2.example.net"}},
		"by pattern":  {Nodes: []string{"web?.example.net"}, EndMs: st.MinMs + third},
		"node, since": {Nodes: []string{"web2.example.net"}, StartMs: st.MinMs + third},
	} {
		all := readAll(t, s, q)
		for which, fields := range map[string][]query.Field{
			"indexed":      indexed(),
			"hosts":        {query.FieldShape, query.FieldNode},
			"hours":        {query.FieldHour},
			"minutes":      {query.FieldKey, query.FieldMinute, query.FieldNode},
			"unless named": {query.FieldAUID, query.FieldAUIDName, query.FieldAUIDName.Other(), query.FieldUnnamed},
			"logins":       {query.FieldAUID, query.FieldAUIDName, query.FieldLogin},
			"every field":  everyField(),
		} {
			t.Run(name+", "+which, func(t *testing.T) { same(t, all.of(fields), tallyOf(t, s, q, fields)) })
		}
		t.Run(name+", the values alone", func(t *testing.T) {
			got := valuesOf(t, s, q, indexed())
			for v := range all.values {
				if v.field < query.FieldNode && !got[v] {
					t.Errorf("%s %q is not among the values", v.field, v.text)
				}
			}
			for v := range got {
				if everything.values[v] == 0 {
					t.Errorf("no event has %s %q", v.field, v.text)
				}
			}
		})
		for which, fields := range combinations() {
			t.Run(name+", "+which, func(t *testing.T) { same(t, flat(all.each[which]), combinationsOf(t, s, q, fields)) })
		}
	}
	snap, err := s.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = snap.Close() }()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := snap.Tally(ctx, &query.Query{}, everyField(), func(*event.Event) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("a tally whose context has ended: %v", err)
	}
	// An engine may also give everything, which needs no memory.
	given := uint64(0)
	_, err = snap.Tally(context.Background(), &query.Query{Memory: query.NewMemory(10_000, nil)}, indexed(), func(*event.Event) error { given++; return nil })
	if !errors.Is(err, query.ErrMemory) && (err != nil || given != st.Events) {
		t.Errorf("a tally of more values than there is memory for: %v, gave %d of %d", err, given, st.Events)
	}
}

// indexed returns the fields that an index has.
func indexed() []query.Field {
	return slices.DeleteFunc(everyField(), func(f query.Field) bool { return f >= query.FieldNode && f <= query.FieldUnnamed })
}

// everyField returns every field that a tally may be of.
func everyField() (all []query.Field) {
	for f := range query.Field(query.NumIndexed) {
		if f != query.FieldEach { // which counts nothing else
			all = append(all, f)
		}
	}
	return all
}

// combinations are fields of which each combination is counted.
func combinations() map[string][]query.Field {
	return map[string][]query.Field{
		"by hour":               {query.FieldHour, query.FieldExe, query.FieldEach},
		"by minute and host":    {query.FieldMinute, query.FieldNode, query.FieldAUID, query.FieldEach},
		"hosts and hours":       {query.FieldNode, query.FieldHour, query.FieldEach},
		"by host":               {query.FieldSuccess, query.FieldNode, query.FieldEach},
		"keys by hour":          {query.FieldHour, query.FieldKey, query.FieldEach},
		"several":               {query.FieldExe, query.FieldType, query.FieldKey, query.FieldEach},
		"unless named, by hour": {query.FieldHour, query.FieldAUID, query.FieldUnnamed, query.FieldEach},
	}
}

// same wants what was counted to be what was read.
func same(t *testing.T, want, got map[string]int64) {
	t.Helper()
	if !maps.Equal(want, got) {
		t.Errorf("(-scanned +counted):\n%.2000s", cmp.Diff(want, got))
	}
}

// valued is a value of a field.
type valued struct {
	field query.Field
	text  string
}

// counts is how many of some events have each value, and when these were.
type counts struct {
	values      map[valued]int64
	any         bool
	first, last int64

	x    query.Extractor
	once map[valued]bool
}

// add counts an event.
func (c *counts) add(ev *event.Event) {
	if c.values == nil {
		c.values, c.once = map[valued]int64{}, map[valued]bool{}
	}
	clear(c.once)
	c.x.Index(ev, func(f query.Field, v []byte) { c.once[valued{f, string(v)}] = true })
	query.Places(ev, func(f query.Field, v string) { c.once[valued{f, v}] = true })
	for v := range c.once {
		c.values[v]++
	}
	c.times(ev.Ms, ev.Ms)
}

// times adds the times of events.
func (c *counts) times(first, last int64) {
	if !c.any {
		c.any, c.first, c.last = true, first, last
	}
	c.first, c.last = min(c.first, first), max(c.last, last)
}

// of returns what is counted of some fields.
func (c *counts) of(fields []query.Field) map[string]int64 {
	out := map[string]int64{}
	if c.any {
		out["first"], out["last"] = c.first, c.last
	}
	for v, n := range c.values {
		if slices.Contains(fields, v.field) {
			out[fmt.Sprintf("%s %q", v.field, v.text)] = n
		}
	}
	return out
}

// reading is what all events of a query have, each of which was read.
type reading struct {
	counts
	each map[string]*query.Tally // by the name of the combination
}

// readAll reads a query's events once, for all that is counted of them.
func readAll(t *testing.T, s store.Store, q *query.Query) *reading {
	t.Helper()
	r := &reading{each: map[string]*query.Tally{}}
	for which, fields := range combinations() {
		r.each[which] = query.NewTally(combined(fields), nil)
	}
	err := store.Scan(context.Background(), s, q, func(ev *event.Event) error {
		r.add(ev)
		for _, to := range r.each {
			if err := addTo(to, ev); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// combined returns the fields of which there are combinations.
func combined(fields []query.Field) []query.Field {
	return slices.DeleteFunc(slices.Clone(fields), func(f query.Field) bool { return f == query.FieldUnnamed })
}

func addTo(to *query.Tally, ev *event.Event) error {
	if !to.AddEvent(ev) {
		return fmt.Errorf("event %d is not counted", ev.Serial)
	}
	return nil
}

// flat returns how many events of each combination there are.
func flat(all ...*query.Tally) map[string]int64 {
	out := map[string]int64{}
	for _, t := range all {
		out["events"] += t.Events
		t.Of(query.FieldEach).Each(func(v string, n int64) { out[v] += n })
	}
	return out
}

// combinationsOf counts the combinations of a query's events by a tally.
func combinationsOf(t *testing.T, s store.Store, q *query.Query, fields []query.Field) map[string]int64 {
	t.Helper()
	snap, err := s.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = snap.Close() }()
	rest := query.NewTally(combined(fields), nil)
	sum, err := snap.Tally(context.Background(), q, fields, func(ev *event.Event) error { return addTo(rest, ev) })
	if err != nil {
		t.Fatal(err)
	}
	return flat(sum, rest)
}

// tallied counts by a tally, and counts the events that it gives.
func tallied(t *testing.T, s store.Store, q *query.Query, fields []query.Field) (sum *query.Tally, given *counts) {
	t.Helper()
	snap, err := s.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = snap.Close() }()
	given = &counts{}
	sum, err = snap.Tally(context.Background(), q, fields, func(ev *event.Event) error { given.add(ev); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return sum, given
}

// valuesOf returns which values a query's events have, and maybe others near them.
func valuesOf(t *testing.T, s store.Store, q *query.Query, fields []query.Field) map[valued]bool {
	t.Helper()
	names := *q
	names.Names = true
	sum, given := tallied(t, s, &names, fields)
	out := map[valued]bool{}
	for v := range given.values {
		out[v] = true
	}
	for _, f := range fields {
		sum.Of(f).Each(func(v string, _ int64) { out[valued{f, v}] = true })
	}
	return out
}

// tallyOf counts the values of a query's events by a tally.
func tallyOf(t *testing.T, s store.Store, q *query.Query, fields []query.Field) map[string]int64 {
	t.Helper()
	sum, given := tallied(t, s, q, fields)
	if sum.Any {
		given.times(sum.FirstMs, sum.LastMs)
	}
	got := given.of(fields)
	for _, f := range fields {
		sum.Of(f).Each(func(v string, n int64) { got[fmt.Sprintf("%s %q", f, v)] += n })
	}
	for _, f := range query.Apart(fields) {
		sum.Of(f).Each(func(v string, _ int64) { t.Errorf("events were counted that have to be read: %s %q", f, v) })
	}
	return got
}
