package api

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

func TestTally(t *testing.T) {
	src := &fakeSource{}
	for i := range 5000 {
		src.events = append(src.events, newEvent("h\xff", fmt.Sprintf("type=USER msg=audit(17.000:%d): x", i)))
	}
	c := dial(t, serve(t, src, Allowed{GID: -1}))
	var got, want []string
	fields := []query.Field{query.FieldFile, query.FieldShape}
	sum, err := c.Tally(context.Background(), &query.Query{StartMs: 5, Nodes: []string{"a"}}, fields, func(ev *event.Event) error {
		got = append(got, flat(ev))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, ev := range src.events[1:] {
		want = append(want, flat(ev))
	}
	sum.Of(query.FieldFile).Each(func(v string, n int64) { got = append(got, fmt.Sprintf("%q %d", v, n)) })
	want = append(want, `"a\xff" 3`, `"" 1`)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-sent +got):\n%.2000s", d)
	}
	if !sum.Any || sum.FirstMs != 17000 || sum.LastMs != 17000 {
		t.Errorf("times %v %d %d", sum.Any, sum.FirstMs, sum.LastMs)
	}
	if src.got.StartMs != 5 || len(src.got.Nodes) != 1 {
		t.Errorf("the query came as %+v", src.got)
	}
	none := func(*event.Event) error { return nil }
	if _, err := c.Tally(context.Background(), &query.Query{Types: []uint32{1}}, fields, none); !errors.Is(err, ErrQuery) {
		t.Errorf("a tally of some types: %v", err)
	}
	if _, _, err := fromTallyRequest(&fleet.TallyRequest{Fields: []uint32{uint32(query.NumIndexed)}}); !errors.Is(err, ErrQuery) {
		t.Errorf("a tally of an unknown field: %v", err)
	}
	for f, refused := range map[query.Field]bool{query.FieldExe: false, query.FieldHour: false, query.FieldShape: true, query.FieldExe.Other(): true} {
		_, _, err := fromTallyRequest(&fleet.TallyRequest{Fields: []uint32{uint32(f), uint32(query.FieldEach)}})
		if errors.Is(err, ErrQuery) != refused {
			t.Errorf("combinations of %s: %v", f, err)
		}
	}
	// A collector that does not know combinations counts the fields themselves.
	src.err = nil
	if _, err := c.Tally(context.Background(), &query.Query{}, []query.Field{query.FieldFile, query.FieldEach}, none); !errors.Is(err, ErrQuery) {
		t.Errorf("values of fields were taken for combinations: %v", err)
	}
	sum = query.NewTally([]query.Field{query.FieldFile, query.FieldEach}, nil)
	if sum.Events = 1; combined(sum) { // and says nothing where they have no values
		t.Error("an event without a combination was taken for counted")
	}
	if src.got.Memory == nil || src.got.Memory.Take(allMemory) {
		t.Error("a tally has no bound")
	}
	src.err = query.ErrMemory
	if _, err := c.Tally(context.Background(), &query.Query{}, fields, none); !strings.Contains(fmt.Sprint(err), "too many different values") {
		t.Errorf("a tally of too much: %v", err)
	}
	src.err = store.ErrDamaged
	if _, err := c.Tally(context.Background(), &query.Query{}, fields, none); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("a tally of a damaged store: %v", err)
	}
}
