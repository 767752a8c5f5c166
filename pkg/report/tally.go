package report

import (
	"cmp"
	"slices"

	"github.com/auditfleet/auditfleet/pkg/query"
)

// tally counts values and keeps the order in which they first appeared. Its memory grows
// with the number of different values.
//
// Each worker has its own tally, so add needs no lock. The order over all workers comes
// from the batches: a worker's Flush returns the values that are new to that worker
// (fresh), the writer receives these lists in the order of the events and registers them
// with touch, and after the scan it adds the workers' counts with merge. A value is
// therefore registered at the batch in which some worker saw it first, and the merged
// order is that of a scan by one goroutine.
type tally struct {
	places map[string]int // in order and counts
	order  []string       // the values by first appearance
	counts []uint64
	given  int // how many elements of order fresh has returned
	memory *query.Memory
	full   bool // memory has no more
}

// countBytes is about what a count takes beside its value.
const countBytes = 100

func newTally(memory *query.Memory) *tally {
	return &tally{places: map[string]int{}, memory: memory}
}

// add counts a value once more.
func (t *tally) add(v []byte) {
	if i, ok := t.places[string(v)]; ok {
		t.counts[i]++
		return
	}
	t.register(string(v), 1)
}

// addN counts a value n times more.
func (t *tally) addN(v string, n uint64) {
	if i, ok := t.places[v]; ok {
		t.counts[i] += n
		return
	}
	t.register(v, n)
}

func (t *tally) register(v string, n uint64) {
	t.full = t.full || !t.memory.Take(len(v)+countBytes)
	t.places[v] = len(t.order)
	t.order, t.counts = append(t.order, v), append(t.counts, n)
}

// fresh returns the values that were added since the last call, by first appearance. The
// slice is part of t.order: the caller must not change it.
func (t *tally) fresh() []string {
	f := t.order[t.given:]
	t.given = len(t.order)
	return f
}

// touch registers values with a count of 0, so that they keep their place in the order.
func (t *tally) touch(values []string) {
	for _, v := range values {
		t.addN(v, 0)
	}
}

// merge adds the counts of another tally.
func (t *tally) merge(other *tally) {
	for i, v := range other.order {
		t.addN(v, other.counts[i])
	}
}

// Count is a value and the number of times that it was counted.
type Count struct {
	Value string
	N     uint64
}

// sorted returns the counts, the largest first. Values with equal counts are sorted by
// less, or stay in the order of first appearance when less is nil.
func (t *tally) sorted(less func(a, b string) int) []Count {
	all := make([]Count, len(t.order))
	for i, v := range t.order {
		all[i] = Count{v, t.counts[i]}
	}
	slices.SortStableFunc(all, func(a, b Count) int {
		if c := cmp.Compare(b.N, a.N); c != 0 || less == nil {
			return c
		}
		return less(a.Value, b.Value)
	})
	return all
}
