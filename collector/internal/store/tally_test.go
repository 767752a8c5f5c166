package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// A table's tally, with the events that it gives to be looked at, counts what a
// reference that has the same events finds one by one.
func TestTableTally(t *testing.T) {
	t.Parallel()
	tab := store.NewTable()
	storetest.Fill(tab, storetest.NewGenerator(9, storetest.Templates(t), 4, storetest.Start), 800)
	for _, raw := range []string{
		"node=web2.example.net type=USER_LOGIN msg=audit(1795334500.000:7): pid=1 uid=0 auid=5 ses=1 msg='op=login exe=\"/a\" exe=\"/b\" res=success'",
		"node=other type=AVC msg=audit(1795334500.500:8): apparmor=\"DENIED\" comm=\"x\" name=\"/n\"",
	} {
		tab.Add("", storetest.Parse("", raw))
	}
	ref := storetest.NewReference()
	if err := ref.Append(context.Background(), &store.Batch{ID: 1, Events: tab}); err != nil {
		t.Fatal(err)
	}
	var fields []query.Field
	for f := range query.Field(query.NumIndexed) {
		if f != query.FieldEach {
			fields = append(fields, f)
		}
	}
	var x query.Extractor
	count := func(to map[string]int64, ev *event.Event) {
		once := map[string]bool{}
		x.Index(ev, func(f query.Field, v []byte) { once[fmt.Sprintf("%s %q", f, v)] = true })
		query.Places(ev, func(f query.Field, v string) { once[fmt.Sprintf("%s %q", f, v)] = true })
		for v := range once {
			to[v]++
		}
	}
	st := tab.Stats()
	mid := (st.MinMs + st.MaxMs) / 2
	for name, q := range map[string]*query.Query{
		"all": {}, "since": {StartMs: mid}, "until": {EndMs: mid}, "nodes": {Nodes: []string{"web2.example.net", "other"}}, "nothing": {StartMs: st.MaxMs + 1},
	} {
		want, got := map[string]int64{}, map[string]int64{}
		if err := store.Scan(context.Background(), ref, q, func(ev *event.Event) error { count(want, ev); return nil }); err != nil {
			t.Fatal(err)
		}
		sum := query.NewTally(fields, nil)
		if err := tab.View().Tally(q, fields, sum, func(ev *event.Event) error { count(got, ev); return nil }); err != nil {
			t.Fatal(err)
		}
		for _, f := range fields {
			sum.Of(f).Each(func(v string, n int64) { got[fmt.Sprintf("%s %q", f, v)] += n })
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-one by one +counted):\n%.2000s", name, d)
		}
		combined(t, name, ref, tab.View(), q)
	}
	boom := errors.New("boom")
	if err := tab.View().Tally(&query.Query{}, fields, query.NewTally(fields, nil), func(*event.Event) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("an error of who is given the odd ones: %v", err)
	}
}

// combined compares the combinations of a table's values with those of its events one by one.
func combined(t *testing.T, name string, ref store.Store, v store.View, q *query.Query) {
	fields := []query.Field{query.FieldHour, query.FieldNode, query.FieldKey, query.FieldType, query.FieldExe, query.FieldEach}
	read, sum := query.NewTally(fields, nil), query.NewTally(fields, nil)
	add := func(to *query.Tally) func(*event.Event) error {
		return func(ev *event.Event) error {
			if !to.AddEvent(ev) {
				t.Errorf("%s: event %d is not counted", name, ev.Serial)
			}
			return nil
		}
	}
	if err := store.Scan(context.Background(), ref, q, add(read)); err != nil {
		t.Fatal(err)
	}
	if err := v.Tally(q, fields, sum, add(sum)); err != nil {
		t.Fatal(err)
	}
	want, got := map[string]int64{}, map[string]int64{}
	read.Of(query.FieldEach).Each(func(key string, n int64) { want[key] += n })
	sum.Of(query.FieldEach).Each(func(key string, n int64) { got[key] += n })
	if d := cmp.Diff(want, got); d != "" || read.Events != sum.Events {
		t.Errorf("%s: combinations of %d events, counted of %d (-one by one +counted):\n%.2000s", name, read.Events, sum.Events, d)
	}
}

// What a text that was cut short or changed holds is refused or read, never beyond its
// end; and an event's copy has records of its own.
func TestCutText(t *testing.T) {
	t.Parallel()
	for _, bad := range []struct {
		text    string
		counted bool
	}{{"", false}, {"no end\n", false}, {"\n\nx", false}, {"", true}, {"\x80", true}, {"\x05ab", true}, {"\x01\x09short", true}, {"\x02\x01a", true}, {"\x01\x80", true}} {
		if one, rest, err := store.CutText([]byte(bad.text), bad.counted); !errors.Is(err, store.ErrText) {
			t.Errorf("%q: %q, rest %q, %v", bad.text, one, rest, err)
		}
		if ev := store.ParseText([]byte(bad.text), bad.counted, nil, store.Origin{}); len(ev.Records) > len(bad.text) {
			t.Errorf("%q: %d records", bad.text, len(ev.Records))
		}
	}
	ev := storetest.Parse("a", "node=a type=X msg=audit(1.000:1): a", "node=a type=X msg=audit(1.000:1): b")
	own := store.CloneEvent(ev)
	ev.Records[0].Serial = 99
	if own.Records[0].Serial != 1 || len(own.Records) != 2 {
		t.Errorf("a copy shares its records: %+v", own.Records)
	}
}
