package seglog

import (
	"fmt"
	"maps"
	"math/rand"
	"slices"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/fsys/faultfs"
)

// on is the model again, on what a power loss left of its disk.
func (m *model) on(fs *faultfs.FS, fail func(string, ...any)) *model {
	c := *m
	c.fs, c.opt.FS, c.log, c.fail = fs, fs, nil, fail
	if m.opt.Changed != nil {
		c.keep()
	}
	c.written, c.gone = maps.Clone(m.written), maps.Clone(m.gone)
	c.maybe = make(map[uint64][][]byte, len(m.maybe))
	for i, list := range m.maybe {
		c.maybe[i] = slices.Clone(list)
	}
	return &c
}

// The power goes at each changing operation of the workload, and of what had not been
// synced any part is there, in any version: what Sync confirmed is there, once, and
// what is not there is neither called damage nor a gap of it. Then the power goes
// while that is opened, at each operation, once more.
func TestEveryLossOfPower(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewSource(1))
	states, again, cuts, complete := 0, 0, 0, 0
	step := need.Size(1, 6)
	for n := 1; ; n += step {
		m := newModel(int64(n), t.Fatalf)
		m.fs.KeepHistory()
		m.fs.CutPower(n)
		workload(m, rand.New(rand.NewSource(7)))
		if m.fs.Changes() < n {
			break
		}
		for _, unit := range []int64{faultfs.Sector, faultfs.Page} {
			cuts++
			_, all := m.fs.EachLoss(unit, powerStates, rng, func(after *faultfs.FS) {
				where := fmt.Sprintf("power cut at operation %d, units of %d, state %d: ", n, unit, states)
				fail := func(format string, args ...any) { t.Fatalf(where+format, args...) }
				if states++; states%powerAgain == 0 {
					again += m.cutAgain(after, rng, fail)
				}
				if c := m.on(after, fail); !c.open() {
					c.fail("cannot be opened")
				}
			})
			if all {
				complete++
			}
		}
	}
	t.Logf("%d power cuts (%d with every outcome there is), %d states, and %d of a second power cut while the first was recovered from", cuts, complete, states, again)
	if states < 5000/step || again < 1000/step {
		t.Errorf("only %d and %d states", states, again)
	}
}

// cutAgain has the power go at every operation of an Open.
func (m *model) cutAgain(after *faultfs.FS, rng *rand.Rand, fail func(string, ...any)) (states int) {
	for n := 1; ; n++ {
		fs := after.Copy()
		fs.KeepHistory()
		before := fs.Changes()
		fs.CutPower(n)
		c := m.on(fs, fail)
		l, _, err := Open(c.opt)
		if err == nil {
			_ = l.Close()
		}
		if fs.Changes()-before < n {
			return states
		}
		visited, _ := fs.EachLoss(faultfs.Sector, 24, rng, func(twice *faultfs.FS) {
			c := m.on(twice, func(format string, args ...any) { fail(fmt.Sprintf("and operation %d of Open: ", n)+format, args...) })
			if !c.open() {
				c.fail("cannot be opened")
			}
		})
		states += visited
	}
}
