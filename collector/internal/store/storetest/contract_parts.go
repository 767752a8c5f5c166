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

// testDays stores several days, with a clock that goes back, and drops parts.
func testDays(t *testing.T, env Env) {
	s := env.Open(t)
	ctx := context.Background()
	day := store.DayOf(Start)
	for i, d := range []store.Day{day, day + 1, day, day + 2} { // the clock went back once
		ms := Start.UnixMilli() + int64(i)
		mustAppend(t, s, &store.Batch{ID: uint64(i + 1), Day: d, Events: tableOf(oneEvent("a", ms, uint64(i))), LSN: uint64(i + 1)})
	}
	if err := s.Drop(ctx, store.Part{Day: day + 7, N: 1}, "max_days = 1"); !errors.Is(err, store.ErrNoDay) {
		t.Errorf("drop a day that is not there: %v, want ErrNoDay", err)
	}
	if err := s.Drop(ctx, store.Part{Day: day, N: 2}, "max_days = 1"); !errors.Is(err, store.ErrNoDay) {
		t.Errorf("drop a second part that is not there: %v, want ErrNoDay", err)
	}
	for part, want := range map[store.Part]string{{Day: day, N: 1}: "[a]", {Day: day + 1, N: 1}: "[a]"} {
		var names []string
		err := s.PartHosts(ctx, part, func(host string) { names = append(names, host) })
		slices.Sort(names)
		if got := fmt.Sprint(slices.Compact(names)); err != nil || got != want {
			t.Errorf("hosts of %s: %s, %v; want %s", part, got, err, want)
		}
	}
	if err := s.PartHosts(ctx, store.Part{Day: day + 7, N: 1}, func(string) {}); !errors.Is(err, store.ErrNoDay) {
		t.Errorf("hosts of a day that is not there: %v, want ErrNoDay", err)
	}
	if h := (store.Held{Generation: 7, Hash: [32]byte{1}}); s.KeepHolds(h, 1, "add web1") != nil || s.Holds() != h {
		t.Errorf("how the list of holds is: %v, want %v", s.Holds(), h)
	}
	if err := s.Drop(ctx, store.Part{Day: day + 2, N: 1}, "max_days = 1"); !errors.Is(err, store.ErrInUse) {
		t.Errorf("drop the last day: %v, want ErrInUse", err)
	}
	snap, err := s.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Drop(ctx, store.Part{Day: day, N: 1}, "max_days = 1"); err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := snap.Scan(ctx, &query.Query{}, func(*event.Event) error { n++; return nil }); err != nil || n != 4 {
		t.Errorf("a snapshot from before the drop: %d events, %v; want all 4", n, err)
	}
	if err := snap.Close(); err != nil {
		t.Error(err)
	}
	if got := Collect(t, s, &query.Query{}); len(got) != 2 {
		t.Errorf("after the drop %d events, want 2", len(got))
	}
	s = env.Reopen(t, s)
	if want := (store.Held{Generation: 7, Hash: [32]byte{1}}); s.Holds() != want {
		t.Errorf("the list of holds after a reopen: %v", s.Holds())
	}
	if got := Collect(t, s, &query.Query{}); len(got) != 2 {
		t.Errorf("after the drop and a reopen %d events, want 2", len(got))
	}
	mustAppend(t, s, &store.Batch{ID: 5, Day: day + 2, Events: tableOf(oneEvent("a", 1, 1)), LSN: 5})
}

// testRotate divides a day: all its parts are searched as one, each is dropped by itself,
// and the part that was being written is so after a reopen.
func testRotate(t *testing.T, env Env) {
	s := env.Open(t)
	ctx := context.Background()
	if err := s.Rotate(ctx); err != nil {
		t.Fatalf("with nothing stored: %v", err)
	}
	day, id := store.DayOf(Start), uint64(0)
	add := func(d store.Day) {
		t.Helper()
		id++
		mustAppend(t, s, &store.Batch{ID: id, Day: d, Events: tableOf(oneEvent("a", Start.UnixMilli()-int64(id), id)), LSN: 10 * id,
			Open: []uint64{id}, Hosts: []store.Host{{Name: "a", Records: id}}})
	}
	rotate := func(reopen bool) {
		t.Helper()
		for range 2 { // the second has nothing to do
			if err := s.Rotate(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if reopen {
			s = env.Reopen(t, s)
		}
		st, err := s.State(ctx)
		if err != nil || st.ID != id || st.LSN != 10*id || !slices.Equal(st.Open, []uint64{id}) || len(st.Hosts) != 1 || st.Hosts[0].Records != id {
			t.Fatalf("after a rotation: %+v, %v", st, err)
		}
	}
	find := func(want int, why string) {
		t.Helper()
		if got := Collect(t, s, &query.Query{}); len(got) != want || !slices.IsSorted(got) {
			t.Errorf("%s: %d events, want %d: %q", why, len(got), want, got)
		}
	}
	add(day)
	add(day)
	rotate(false)
	add(day)
	rotate(true)
	find(3, "before anything is in the third")
	add(day)
	find(4, "three parts")
	add(day - 1) // the clock went back
	add(day)     // and forth
	s = env.Reopen(t, s)
	find(6, "after a clock that went back")
	if err := s.Drop(ctx, store.Part{Day: day, N: 3}, "max_days = 1"); !errors.Is(err, store.ErrInUse) {
		t.Errorf("drop the part being written: %v, want ErrInUse", err)
	}
	if err := s.Drop(ctx, store.Part{Day: day, N: 1}, "max_days = 1"); err != nil {
		t.Fatal(err)
	}
	find(4, "without the first part")
	s = env.Reopen(t, s)
	find(4, "without the first part, after a reopen")
	rotate(true)
	add(day + 1)
	add(day)
	find(6, "a day later and back")
}
