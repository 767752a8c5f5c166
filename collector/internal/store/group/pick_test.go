package group

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// What is picked of a block is what CutText cuts of its text, and of what is tested for nothing is passed over.
func TestPick(t *testing.T) {
	t.Parallel()
	c := codec(t)
	blobs, all := manyBatches(t, c, 5, 3, 3000)
	built, _ := build(t, c, all, 1<<20)
	r := rand.New(rand.NewPCG(1, 2))
	q := &query.Query{Terms: []query.Term{{Fields: []query.Field{query.FieldUID}, Op: query.OpEqual, Text: "1001"}}}
	m := query.NewMatcher(q)
	tests, picks, passed, of := NewPicker(m.Looks()), NewPicker(nil, nil), 0, 0
	if !tests.Tests() || picks.Tests() {
		t.Fatal("a uid is not looked for, or nothing is")
	}
	for k, blob := range append(slices.Clone(blobs[:1]), built...) {
		g, err := c.Open(blob)
		if err != nil {
			t.Fatal(err)
		}
		frames := g.Frames()
		if frames.Picks() != (k > 0) {
			t.Errorf("group %d has rows: %v", k, frames.Picks())
		}
		cands, err := g.Plan(&query.Query{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, cand := range cands {
			text, err := frames.Text(blob, nil, cand.Block.Frame)
			if err != nil {
				t.Fatal(err)
			}
			if text, err = cand.Block.Cut(text); err != nil {
				t.Fatal(err)
			}
			var events []string
			for range cand.Block.Events {
				one, rest, err := store.CutText(text, cand.Block.Counted)
				if err != nil {
					t.Fatal(err)
				}
				events, text = append(events, string(one)), rest
			}
			want := []uint32{}
			for i := range cand.Block.Events {
				if r.IntN(5) == 0 {
					want = append(want, i)
				}
			}
			for _, cand.Want = range [][]uint32{want, nil} {
				for _, p := range []*Picker{picks, tests} {
					if ok := frames.Pick(p, blob, &cand); !ok {
						continue // another form, or it has blocks of another one
					} else if k == 0 {
						t.Fatal("a frame that is no rows is picked from")
					}
					got := map[uint32]string{}
					for {
						n, from, to, ok := p.Next()
						if !ok {
							break
						}
						got[n] = string(p.Text()[from:to])
					}
					for i, one := range events {
						text, ok := got[uint32(i)]
						wanted := cand.Want == nil || slices.Contains(cand.Want, uint32(i))
						switch may := p == picks || m.MayMatch([]byte(one)); {
						case ok && (!wanted || text != one):
							t.Fatalf("event %d of block %d, wanted: %v: %.200q, not %.200q", i, cand.Index, wanted, text, one)
						case !ok && wanted && may:
							t.Fatalf("event %d of block %d is not picked: %.200q", i, cand.Index, one)
						}
					}
					if p == tests && cand.Want == nil {
						passed, of = passed+p.Passed, of+p.Of
					}
				}
			}
		}
	}
	g, err := c.Open(built[0])
	if err != nil {
		t.Fatal(err)
	}
	if cands, err := g.Plan(&query.Query{}, nil); err != nil || g.Frames().Pick(picks, built[0][1:], &cands[0]) {
		t.Errorf("another group's bytes are picked from: %v", err)
	}
	if of < len(all)/2 || passed == 0 || passed > of/2 {
		t.Errorf("%d of %d events pass the test, of %d", passed, of, len(all))
	}
}
