package query

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
)

func TestKeyOrder(t *testing.T) {
	keys := []Key{{1, "a", 1}, {1, "a", 2}, {1, "b", 1}, {2, "a", 0}}
	for i, a := range keys {
		for k, b := range keys {
			if got := a.Compare(b); got != slices.Compare([]int{i}, []int{k}) {
				t.Errorf("%v and %v: %d", a, b, got)
			}
		}
	}
	if fmt.Sprint(KeyOf(&event.Event{Node: []byte("n"), Ms: 5, Serial: 6})) != "{5 n 6}" {
		t.Error("KeyOf")
	}
}

// placed is an event of a model of a store: its name says which one it is.
type placed struct {
	key   Key
	batch uint64
	name  int
}

// pageOf gives the names of a page of the model, and its last event's place.
func pageOf(t *testing.T, all []placed, q *Query) (names []int, last *Cursor) {
	t.Helper()
	byEvent := map[*event.Event]int{}
	p, scan := q.Paged(func(ev *event.Event) error {
		names = append(names, byEvent[ev])
		at := CursorOf(ev)
		last = &at
		return nil
	})
	list := slices.Clone(all)
	slices.SortStableFunc(list, func(a, b placed) int {
		if c := a.key.Compare(b.key); c != 0 {
			return c
		}
		return int(int64(a.batch) - int64(b.batch))
	})
	if q.Reverse {
		slices.Reverse(list)
	}
	for _, e := range list {
		if scan.StartMs != 0 && e.key.Ms < scan.StartMs || scan.EndMs != 0 && e.key.Ms > scan.EndMs {
			continue
		}
		ev := &event.Event{Ms: e.key.Ms, Node: []byte(e.key.Node), Serial: e.key.Serial, Batch: e.batch}
		byEvent[ev] = e.name
		if err := p.Event(ev); err != nil {
			return names, last
		}
	}
	if err := p.Done(); err != nil {
		t.Fatal(err)
	}
	return names, last
}

// Pages of any size are together what one scan gives, with many ties, while events
// come in: of these, what lies behind the cursor is in a later page, and nothing else.
func TestPages(t *testing.T) {
	for seed := range uint64(need.Size(100, 20)) {
		r := rand.New(rand.NewPCG(seed, 7))
		var all []placed
		add := func(batch uint64) {
			all = append(all, placed{Key{int64(r.IntN(4)), []string{"", "a", "b"}[r.IntN(3)], uint64(r.IntN(2))}, batch, len(all)})
		}
		for batch := range uint64(4) {
			for range r.IntN(60) {
				add(batch + 1)
			}
		}
		for _, reverse := range []bool{false, true} {
			before := slices.Clone(all)
			want, _ := pageOf(t, before, &Query{Reverse: reverse, Batches: true})
			var got []int
			q := &Query{Reverse: reverse, Batches: true}
			for range 1000 {
				q.Limit = uint64(1 + r.IntN(9))
				page, last := pageOf(t, all, q)
				got = append(got, page...)
				if uint64(len(page)) < q.Limit {
					break
				}
				q.After = last
				for range r.IntN(3) { // into the batch in memory, or a new one
					add(uint64(4 + r.IntN(2)))
				}
			}
			sorted := slices.Clone(got)
			slices.Sort(sorted)
			if len(slices.Compact(sorted)) != len(got) {
				t.Fatalf("seed %d, reverse %v: repeated: %v", seed, reverse, got)
			}
			got = slices.DeleteFunc(got, func(name int) bool { return name >= len(before) })
			if d := cmp.Diff(want, got); d != "" {
				t.Fatalf("seed %d, reverse %v (-one scan +pages):\n%s", seed, reverse, d)
			}
		}
	}
}

// More events of one key and batch than are held are paged through all the same.
func TestPagesOfManyTies(t *testing.T) {
	var all []placed
	for i := range 2*maxTies + 100 {
		all = append(all, placed{Key{5, "h", 1}, 1, i})
	}
	for _, size := range []int{maxTies - 1, 1000, 2*maxTies + 99} {
		want, _ := pageOf(t, all, &Query{Reverse: true})
		var got []int
		q := &Query{Reverse: true, Limit: uint64(size)}
		for range 20 {
			page, last := pageOf(t, all, q)
			if got = append(got, page...); len(page) < size {
				break
			}
			q.After = last
		}
		if !slices.Equal(want, got) {
			t.Errorf("pages of %d: %d events, want %d", size, len(got), len(want))
		}
	}
}
