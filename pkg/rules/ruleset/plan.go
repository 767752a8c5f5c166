package ruleset

import (
	"fmt"
	"slices"

	"github.com/auditfleet/auditfleet/pkg/rules"
)

// Held is a rule that the kernel holds: the parsed rule, and the kernel's bytes, which
// are needed to delete it.
type Held struct {
	Rule *rules.Rule
	Raw  []byte
}

// Unmarshal parses the kernel's list of rules, one struct audit_rule_data for each
// element of raw.
func Unmarshal(raw [][]byte) ([]Held, error) {
	held := make([]Held, len(raw))
	for i, b := range raw {
		r, err := rules.Unmarshal(b)
		if err != nil {
			return nil, fmt.Errorf("rule %d of the kernel: %w", i+1, err)
		}
		held[i] = Held{r, b}
	}
	return held, nil
}

// Step is one request to the kernel: it adds Rule (before the other rules of its list if
// Rule.Prepend is set) or, with Delete, deletes it.
type Step struct {
	Delete bool
	Rule   *rules.Rule
	Raw    []byte
	// StandIn is set for a rule that only replaces another one while the change is in
	// progress.
	StandIn bool
}

// Plan is the sequence of steps from the rules that a kernel holds to those wanted. At
// each moment between two steps, the kernel records every event that both the rules
// before and the rules after record; ORDER.md has the argument.
type Plan struct {
	Steps   []Step
	Added   []*rules.Rule // what the kernel did not hold, in order
	Deleted []*rules.Rule // what is not wanted any more
	Moved   []*rules.Rule // held, but at another place among those of its list
	want    []*rules.Rule
}

// Empty reports whether the kernel already holds the wanted rules in the wanted order.
func (p *Plan) Empty() bool { return len(p.Steps) == 0 }

// NewPlan plans the steps from current to want. It compares the order of rules within
// each list only, because the order between lists has no meaning to the kernel. A rule
// that is in want twice is wanted once, at its first place.
func NewPlan(current []Held, want []*rules.Rule) (*Plan, error) {
	p := &Plan{}
	var adds, deletes []Step
	var lists []rules.List
	for _, h := range current {
		lists = append(lists, h.Rule.List)
	}
	for _, r := range want {
		lists = append(lists, r.List)
	}
	slices.Sort(lists)
	for _, list := range slices.Compact(lists) {
		l := listPlan{plan: p, held: newRuleIndex(nil), wanted: newRuleIndex(nil)}
		for _, h := range current {
			if h.Rule.List == list {
				l.current = append(l.current, h)
				l.held.add(h.Rule)
			}
		}
		for _, r := range want {
			if r.List == list && !l.wanted.has(r) {
				l.want = append(l.want, r)
				l.wanted.add(r)
			}
		}
		if err := l.make(); err != nil {
			return nil, err
		}
		adds, deletes = append(adds, l.adds...), append(deletes, l.deletes...)
		p.want = append(p.want, l.want...)
	}
	p.Steps = append(adds, deletes...)
	return p, nil
}

// listPlan is the plan for one list.
type listPlan struct {
	plan    *Plan
	current []Held
	want    []*rules.Rule
	held    *ruleIndex // of current
	wanted  *ruleIndex // of want
	adds    []Step
	deletes []Step
}

// make finds the rules that stay where they are: a run of the wanted ones that
// is in the kernel's list in the same order. What is wanted before the run can
// only be prepended, what is wanted after it appended.
func (l *listPlan) make() error {
	from, keep := l.longestRun()
	to := from + len(keep)
	stays := map[int]bool{}
	for _, i := range keep {
		stays[i] = true
	}
	moves := false
	for i, r := range l.want {
		if i >= from && i < to {
			continue
		}
		if l.held.has(r) {
			moves = true
			l.plan.Moved = append(l.plan.Moved, r)
		} else {
			l.plan.Added = append(l.plan.Added, r)
		}
	}
	for i, h := range l.current {
		if !stays[i] && !l.wanted.has(h.Rule) {
			l.plan.Deleted = append(l.plan.Deleted, h.Rule)
		}
	}
	front, back := l.want[:from], l.want[to:]
	if !moves {
		l.place(front, back, false)
		l.clear(stays)
		return nil
	}
	// A kernel can't hold a rule twice, so stand-ins take all new places first,
	// then the old ones go, then the rules take the places of their stand-ins.
	standFront, err := l.standIns(front)
	if err != nil {
		return err
	}
	standBack, err := l.standIns(back)
	if err != nil {
		return err
	}
	l.place(standFront, standBack, true)
	l.clear(stays)
	l.adds, l.deletes = append(l.adds, l.deletes...), nil
	l.place(front, back, false)
	for _, r := range slices.Backward(append(slices.Clone(standFront), standBack...)) {
		l.deletes = append(l.deletes, Step{Delete: true, Rule: r, StandIn: true})
	}
	return nil
}

// longestRun returns where in want the rules that stay begin, and which of the
// kernel's they are.
func (l *listPlan) longestRun() (from int, keep []int) {
	at := make([]int, len(l.want)) // of each wanted rule in the kernel's list, -1: to be added
	for i, r := range l.want {
		at[i] = -1
		if held := l.held.all(r); len(held) == 1 { // of one held twice it can't be chosen which a deletion takes
			at[i] = held[0]
		}
	}
	// What begins within a run is shorter than it, so the next one begins behind it.
	for i := 0; i < len(l.want); {
		var run []int
		for j := i; j < len(l.want) && at[j] >= 0 && (len(run) == 0 || at[j] > run[len(run)-1]); j++ {
			run = append(run, at[j])
		}
		if len(run) > len(keep) {
			from, keep = i, run
		}
		next := i + max(len(run), 1)
		if !canPrepend(l.want[max(i-1, 0):next]) {
			break
		}
		i = next
	}
	return from, keep
}

// canPrepend reports whether rules may be put before a list one by one, the last
// first: a never that is meant to come after an always must not stand alone in
// front of it for a moment.
func canPrepend(front []*rules.Rule) bool {
	for i := 1; i < len(front); i++ {
		if front[i].Action == rules.Never && front[i-1].Action != rules.Never {
			return false
		}
	}
	return true
}

// place adds back in order and front in reverse. Back comes first: at the end of
// the list it changes nothing that was decided before it.
func (l *listPlan) place(front, back []*rules.Rule, standIn bool) {
	for _, r := range back {
		r = r.Clone()
		r.Prepend = false
		l.adds = append(l.adds, Step{Rule: r, StandIn: standIn})
	}
	for _, r := range slices.Backward(front) {
		r = r.Clone()
		r.Prepend = true
		l.adds = append(l.adds, Step{Rule: r, StandIn: standIn})
	}
}

// clear deletes what does not stay, the last first: a never rule must not be
// uncovered by the deletion of an always rule before it.
func (l *listPlan) clear(stays map[int]bool) {
	for i, h := range slices.Backward(l.current) {
		if !stays[i] {
			l.deletes = append(l.deletes, Step{Delete: true, Rule: h.Rule, Raw: h.Raw})
		}
	}
}

// standIns makes rules that match what the given ones do and that the kernel
// does not take for the same.
func (l *listPlan) standIns(list []*rules.Rule) ([]*rules.Rule, error) {
	out := make([]*rules.Rule, len(list))
	for i, r := range list {
		s := r.Clone()
		s.Prepend = false
		for {
			if len(s.Fields) >= rules.MaxFields {
				return nil, fmt.Errorf("the rule has %d fields, none is left to move it with: %s", len(r.Fields), r.Text(rules.SystemEnv(), rules.TextOptions{}))
			}
			s.Fields = append(s.Fields, alwaysTrue(r))
			if !l.held.has(s) && !l.wanted.has(s) {
				break
			}
		}
		out[i] = s
	}
	return out, nil
}

// alwaysTrue is a condition that changes nothing about a rule: any process has a
// number of 0 or more; the filesystem list knows its own fields only, one of
// which says the same again.
func alwaysTrue(r *rules.Rule) rules.Field {
	if r.List == rules.ListFilesystem {
		if f, ok := r.Field(rules.FieldFSType); ok {
			return f
		}
	}
	return rules.Field{ID: rules.FieldPID, Op: rules.GreaterEqual}
}
