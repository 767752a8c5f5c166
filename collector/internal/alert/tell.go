package alert

import (
	"slices"
	"strings"
)

// groupKey tells groups apart.
type groupKey struct {
	cond     Condition
	severity Severity
	state    string
}

// due returns what is to be told now: changes that have been gathered for long enough, and what
// fires and is to be repeated. mu is held.
func (e *Evaluator) due() []Group {
	first := map[groupKey]int64{} // when the earliest change of a group was
	lists := map[groupKey][]*alert{}
	repeats := map[groupKey]bool{}
	add := func(a *alert, state string) {
		k := groupKey{a.cond, a.Severity, state}
		if at, ok := first[k]; !ok || a.Changed < at {
			first[k] = a.Changed
		}
		lists[k] = append(lists[k], a)
	}
	for _, a := range e.alerts {
		if a.State == pending || a.Started == 0 {
			continue
		}
		if a.Started != a.ToldStart {
			add(a, Firing)
		}
		if a.State == Resolved && a.Started == a.ToldStart && !a.ToldEnd { // else its begin comes first
			add(a, Resolved)
		}
		if a.State == Firing && a.Started == a.ToldStart && e.rules.Repeat > 0 && e.up-a.ToldAt >= e.rules.Repeat.Milliseconds() {
			repeats[groupKey{a.cond, a.Severity, Firing}] = true
		}
	}
	for k := range repeats { // a group is repeated as a whole
		for _, a := range e.alerts {
			if a.State == Firing && a.Started == a.ToldStart && a.cond == k.cond && a.Severity == k.severity {
				lists[k], first[k] = append(lists[k], a), 0
			}
		}
	}
	var out []Group
	for k, list := range lists {
		if !repeats[k] && e.up-first[k] < e.rules.Group.Milliseconds() {
			continue
		}
		out = append(out, e.group(k, list))
	}
	slices.SortFunc(out, func(x, y Group) int { return strings.Compare(x.Key, y.Key) })
	return out
}

// group makes a group, and notes that it is told. mu is held.
func (e *Evaluator) group(k groupKey, list []*alert) Group {
	byTurns(list)
	g := Group{Key: conditions[k.cond].name + "/" + string(k.severity) + "/" + k.state, Total: len(list)}
	for i, a := range list {
		if i < MaxNotices {
			g.Notices = append(g.Notices, e.notice(a, k.state))
		}
		if !a.unsynced {
			a.unsynced, a.was = true, told{a.ToldStart, a.ToldEnd, a.ToldAt}
		}
		a.ToldAt = e.up
		if k.state == Firing {
			a.ToldStart, a.ToldEnd = a.Started, false
		} else {
			a.ToldEnd = true
		}
	}
	e.dirty, e.unsynced = true, true
	return g
}
