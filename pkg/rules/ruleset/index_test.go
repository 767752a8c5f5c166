package ruleset

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/rules"
)

func indexOf(list []*rules.Rule, r *rules.Rule) int {
	return slices.IndexFunc(list, func(o *rules.Rule) bool { return o.Equal(r) })
}

// fewRules are rules of few values, so that many are equal or imply one another.
func fewRules(r *rand.Rand, n int) []*rules.Rule {
	out := make([]*rules.Rule, n)
	for i := range out {
		x := &rules.Rule{List: []rules.List{rules.ListExit, rules.ListExit, rules.ListFilesystem}[r.IntN(3)], Action: rules.Always}
		if r.IntN(4) == 0 {
			x.Action = rules.Never
		}
		if x.Mask[0] = 1 << r.IntN(2); r.IntN(2) == 0 {
			x.Mask = rules.AllSyscalls()
		}
		for range r.IntN(4) {
			f := rules.Field{ID: rules.FieldPath, Op: rules.Equal, Str: []string{"/a", "/a/b", "/a/b/", "/", "/c", "//", "b/c"}[r.IntN(7)]}
			switch r.IntN(6) {
			case 0:
				f.ID = rules.FieldDir
			case 1:
				f = rules.Field{ID: rules.FieldPerm, Op: rules.Equal, Value: uint32(r.IntN(16))}
			case 2:
				f = rules.Field{ID: rules.FieldUID, Op: []rules.Operator{rules.Equal, rules.NotEqual}[r.IntN(2)], Value: uint32(r.IntN(2))}
			case 3:
				f = rules.Field{ID: rules.FieldKey, Op: rules.Equal, Str: fmt.Sprint(r.IntN(2))}
			case 4:
				f.Op = rules.NotEqual
			}
			x.Fields = append(x.Fields, f)
		}
		out[i] = x
	}
	return out
}

// The indexes leave out no rule that a comparison with each would find.
func TestIndexes(t *testing.T) {
	seed := need.Seed(t)
	for round := range need.Size(300, 60) {
		list := fewRules(rand.New(rand.NewPCG(seed, uint64(round))), 60)
		x := newRuleIndex(list)
		c := newConditionIndex(len(list), func(i int) ([]rules.Field, bool) { return withoutKey(list[i]), true })
		for _, r := range list {
			var equal []int
			for i, o := range list {
				if o.Equal(r) {
					equal = append(equal, i)
				}
			}
			if got := x.all(r); !slices.Equal(got, equal) {
				t.Fatalf("equal rules at %v, want %v (AUDITFLEET_SEED=%d)", got, equal, seed)
			}
			maybe := c.impliedBy(withoutKey(r))
			if !slices.IsSorted(maybe) {
				t.Fatalf("not in order: %v", maybe)
			}
			for i, o := range list {
				if implies(withoutKey(r), withoutKey(o)) && !slices.Contains(maybe, i) {
					t.Fatalf("%v implies %v, which the index leaves out (AUDITFLEET_SEED=%d)", r.Fields, o.Fields, seed)
				}
			}
		}
	}
}

// longest is what longestRun finds, looking at each place.
func longest(l *listPlan) (from int, keep []int) {
	at := make([]int, len(l.want))
	for i, r := range l.want {
		at[i] = -1
		for j, h := range l.current {
			if h.Rule.Equal(r) {
				if at[i] >= 0 {
					at[i] = -1
					break
				}
				at[i] = j
			}
		}
	}
	for i := range l.want {
		if !canPrepend(l.want[:i]) {
			break
		}
		var run []int
		for j := i; j < len(l.want) && at[j] >= 0 && (len(run) == 0 || at[j] > run[len(run)-1]); j++ {
			run = append(run, at[j])
		}
		if len(run) > len(keep) {
			from, keep = i, run
		}
	}
	return from, keep
}

func TestLongestRun(t *testing.T) {
	seed := need.Seed(t)
	for round := range 3000 {
		r := rand.New(rand.NewPCG(seed, uint64(round)))
		all := fewRules(r, 30)
		l := listPlan{held: newRuleIndex(nil), wanted: newRuleIndex(nil)}
		for _, x := range all {
			if r.IntN(4) > 0 {
				l.current = append(l.current, Held{Rule: x})
				l.held.add(x)
			}
			if r.IntN(4) > 0 && !l.wanted.has(x) {
				l.want = append(l.want, x)
				l.wanted.add(x)
			}
		}
		from, keep := l.longestRun()
		wantFrom, want := longest(&l)
		if from != wantFrom || !slices.Equal(keep, want) {
			t.Fatalf("from %d %v, want from %d %v (AUDITFLEET_SEED=%d, round %d)", from, keep, wantFrom, want, seed, round)
		}
	}
}

// A generated file of very many watches is linted and planned.
func TestManyRules(t *testing.T) {
	n := need.Size(100_000, 20_000) // if each was compared with each, the test's time would not do
	var placed []Placed
	var held []Held
	var want []*rules.Rule
	line := &Line{Cmd: &rules.Command{}}
	for i := range n {
		r := &rules.Rule{List: rules.ListExit, Action: rules.Always, Mask: rules.AllSyscalls(), Fields: []rules.Field{
			{ID: rules.FieldPath, Op: rules.Equal, Str: fmt.Sprintf("/srv/f%d", i)}, {ID: rules.FieldPerm, Op: rules.Equal, Value: 2}}}
		placed, want = append(placed, Placed{Rule: r, Line: line}), append(want, r)
		held = append(held, Held{Rule: r})
	}
	if p, err := NewPlan(held, want); err != nil || !p.Empty() {
		t.Errorf("%v, %v", p, err)
	}
	if w := Lint(placed, LintEnv{}); len(w) > 0 {
		t.Errorf("%d warnings", len(w))
	}
}
