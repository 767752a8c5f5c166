package report

import (
	"cmp"
	"slices"
)

// tally counts values and knows which came first. A worker has one of its own;
// those of all workers are added up at the end, in the order in which fresh said
// that values came up. It is as large as its values are many.
type tally struct {
	counts map[string]*uint64
	order  []string // by first appearance
	given  int      // of order, what fresh has returned
}

func newTally() *tally { return &tally{counts: map[string]*uint64{}} }

// add counts a value once more.
func (t *tally) add(v []byte) {
	if n := t.counts[string(v)]; n != nil {
		*n++
		return
	}
	t.register(string(v), 1)
}

// addN counts a value n times more.
func (t *tally) addN(v string, n uint64) {
	if c := t.counts[v]; c != nil {
		*c += n
		return
	}
	t.register(v, n)
}

func (t *tally) register(v string, n uint64) {
	t.counts[v] = &n
	t.order = append(t.order, v)
}

// fresh returns the values that came up since the last call, the first one first.
func (t *tally) fresh() []string {
	f := t.order[t.given:]
	t.given = len(t.order)
	return f
}

// touch makes values known without counting them.
func (t *tally) touch(values []string) {
	for _, v := range values {
		if t.counts[v] == nil {
			t.register(v, 0)
		}
	}
}

// merge adds the counts of another tally.
func (t *tally) merge(other *tally) {
	for _, v := range other.order {
		n := *other.counts[v]
		if mine := t.counts[v]; mine != nil {
			*mine += n
		} else {
			t.register(v, n)
		}
	}
}

// Count is a value and how often it was there.
type Count struct {
	Value string
	N     uint64
}

// sorted returns the counts, the largest first. Equal ones stay as they came, or
// go by less where there is one.
func (t *tally) sorted(less func(a, b string) int) []Count {
	all := make([]Count, len(t.order))
	for i, v := range t.order {
		all[i] = Count{v, *t.counts[v]}
	}
	slices.SortStableFunc(all, func(a, b Count) int {
		if c := cmp.Compare(b.N, a.N); c != 0 || less == nil {
			return c
		}
		return less(a.Value, b.Value)
	})
	return all
}
