package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// testClasses stores batches that are divided by classes, by rules that change: answers are those of a place that divides nothing, each class of a day has parts of its own, and
// is dropped by itself.
func testClasses(t *testing.T, env Env) {
	s := env.Open(t)
	if _, err := store.Able[store.Dividing](s, "divide batches"); err != nil {
		t.Skip("this place divides days when it compacts them")
	}
	ctx := context.Background()
	web, noise := store.Class{Hosts: "web*"}, store.Class{Key: "noise"}
	divide := func(c ...store.Class) { s.(store.Dividing).Divide(c) }
	day, id := store.DayOf(Start), uint64(0)
	add := func(d store.Day) {
		t.Helper()
		id++
		tab := store.NewTable()
		for i, host := range []string{"web1", "web2", "db1", "mail"} {
			for j, key := range []string{"(null)", `"noise"`} {
				tab.Add(host, Parse(host, fmt.Sprintf("node=%s type=SYSCALL msg=audit(%d.%03d:%d): arch=c000003e syscall=59 key=%s", host, Start.Unix()+int64(d-day)*86400, i, 10*id+uint64(j), key)))
			}
		}
		mustAppend(t, s, &store.Batch{ID: id, Day: d, Events: tab, LSN: id})
	}
	parts := func(d store.Day) map[string]store.PartStats {
		t.Helper()
		st, err := s.Stats(ctx)
		if err != nil {
			t.Fatal(err)
		}
		of := map[string]store.PartStats{}
		for _, p := range st.Parts {
			if p.Day == d && (p.Events > 0 || !p.Sealed) {
				of[p.Class] = p
			}
		}
		return of
	}
	find := func(when string, want int) {
		t.Helper()
		if got := Collect(t, s, &query.Query{}); len(got) != want || len(slices.Compact(slices.Sorted(slices.Values(got)))) != want {
			t.Errorf("%s: %d events, want %d", when, len(got), want)
		}
	}
	divide(web, noise)
	add(day)
	add(day)
	s = env.Reopen(t, s)
	divide(noise)
	add(day)
	divide()
	add(day)
	find("four batches", 32)
	rest, other := store.Classes{web, noise}.Rest(), store.Classes{noise}.Rest()
	is := parts(day)
	for class, n := range map[string]uint64{"web*": 8, "key noise": 8, rest: 4, other: 4, "": 8} {
		if is[class].Events != n || is[class].Sealed && class != "" {
			t.Errorf("of %q: %+v, want %d events", class, is[class], n)
		}
	}
	if err := s.Drop(ctx, is["web*"].Part, "retain = web*: 1d"); !errors.Is(err, store.ErrInUse) {
		t.Errorf("drop a class of the day that is written: %v, want ErrInUse", err)
	}
	divide(web, noise)
	add(day + 1)
	snap, err := s.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Drop(ctx, is["web*"].Part, "retain = web*: 1d"); err != nil {
		t.Fatal(err)
	}
	given := int64(0)
	if sum, err := snap.Tally(ctx, &query.Query{}, nil, func(*event.Event) error { given++; return nil }); err != nil || sum.Events+given != 40 {
		t.Errorf("a snapshot of before counts %d events and gives %d, %v; want 40", sum.Events, given, err)
	}
	if err := snap.Close(); err != nil {
		t.Error(err)
	}
	find("without a class", 32)
	if list, err := s.(store.Dropping).Drops(ctx); err != nil || len(list) != 1 || list[0].Class != "web*" || list[0].First != 1 || list[0].Last != 2 || list[0].Events != 8 || !list[0].ClassGone || list[0].DayGone {
		t.Errorf("drops: %+v, %v", list, err)
	}
	if err := s.Rotate(ctx); err != nil {
		t.Fatal(err)
	}
	s = env.Reopen(t, s)
	divide(web, noise)
	add(day + 1)
	find("a class has another part", 40)
	for class, p := range is {
		if class == "web*" {
			continue
		}
		if err := s.Drop(ctx, p.Part, "max_days = 1"); err != nil {
			t.Fatalf("drop what is left of the day, %q: %v", class, err)
		}
	}
	find("without the day", 16)
	add(day) // the clock goes back
	find("behind parts that are dropped", 24)
	s = env.Reopen(t, s)
	find("and after a reopen", 24)
}
