package bolt

import (
	"slices"
	"sync"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Workers begin with what the merge comes to first, whichever plan is done first: a day is one plan, and a later one is no good before its turn.
func TestAheadInOrder(t *testing.T) {
	for _, reverse := range []bool{false, true} {
		sc := &scan{q: &query.Query{Reverse: reverse}}
		sc.wake = sync.NewCond(&sc.mu)
		unitsOf := func(pl *plan, times ...int64) (out []*unit) {
			for _, ms := range times {
				out = append(out, &unit{plan: pl, cand: group.Candidate{Block: group.Block{MinMs: ms, MaxMs: ms}}})
			}
			if reverse {
				slices.Reverse(out)
			}
			return out
		}
		early, late := &plan{due: 10}, &plan{due: 30}
		if reverse {
			early.due, late.due = -20, -40
			sc.plans = []*plan{late, early}
		} else {
			sc.plans = []*plan{early, late}
		}
		first, second := sc.plans[0], sc.plans[1]
		ofFirst, ofSecond := unitsOf(first, 10, 20), unitsOf(second, 30, 40)
		if reverse {
			ofFirst, ofSecond = unitsOf(first, 30, 40), unitsOf(second, 10, 20)
		}
		sc.planned(second, ofSecond)
		if sc.near(sc.units[0]) {
			t.Errorf("reverse %v: the later plan's units are begun before the earlier one is done", reverse)
		}
		sc.planned(first, ofFirst)
		if !slices.Equal(sc.units, slices.Concat(ofFirst, ofSecond)) {
			t.Errorf("reverse %v: units are out of order", reverse)
		}
		for _, u := range sc.units {
			if !sc.near(u) {
				t.Errorf("reverse %v: all plans are done, and a unit is not begun", reverse)
			}
		}
	}
}

// A day that is compacted is one plan: it has one worker until its blocks are known, and then as many as there are blocks, up to the most.
func TestWorkersForBlocks(t *testing.T) {
	for blocks, want := range []int{1, 1, 2, 3, 3} {
		sc := &scan{q: &query.Query{}, most: 3, plans: []*plan{{}}}
		sc.wake = sync.NewCond(&sc.mu)
		sc.mu.Lock()
		sc.workFor(len(sc.plans))
		sc.plans[0].phase = running // so that no worker begins with it
		units := make([]*unit, blocks)
		for i := range units {
			units[i] = &unit{plan: sc.plans[0], phase: done}
		}
		sc.planned(sc.plans[0], units)
		got := sc.workers
		sc.mu.Unlock()
		sc.close()
		if got != want {
			t.Errorf("%d blocks: %d workers, want %d", blocks, got, want)
		}
	}
}
