package ledger

import (
	"cmp"
	"slices"
)

// joined makes one interval of those of a cause that overlap, where they count nothing: a host
// may say that auditing was off, and the kernel too.
func joined(list []Interval) (out []Interval) {
	slices.SortStableFunc(list, func(x, y Interval) int { return cmp.Or(cmp.Compare(x.From, y.From), cmp.Compare(x.To, y.To)) })
	last := map[Cause]int{} // of each cause, also one of later versions, its last interval in out, and 1
	for _, x := range list {
		if i := last[x.Cause] - 1; i >= 0 && x.N == 0 && out[i].N == 0 && x.From <= out[i].To {
			out[i].To = max(out[i].To, x.To)
			continue
		}
		out = append(out, x)
		last[x.Cause] = len(out)
	}
	return out
}

// count adds an interval to the list and to its cause's sum.
func (a *Answer) count(x Interval) {
	if len(a.Intervals) < MaxIntervals {
		a.Intervals = append(a.Intervals, x)
	}
	a.Causes = addSum(a.Causes, x)
}

// addSum adds an interval to its cause's sum in a list by Cause.
func addSum(list []Sum, x Interval) []Sum {
	i, found := slices.BinarySearchFunc(list, x.Cause, func(s Sum, c Cause) int { return int(s.Cause) - int(c) })
	if !found {
		list = slices.Insert(list, i, Sum{Cause: x.Cause, From: x.From, To: x.To})
	}
	s := &list[i]
	s.N = AddUp(s.N, x.N)
	s.From, s.To, s.Length = min(s.From, x.From), max(s.To, x.To), s.Length+x.To-x.From
	s.Dropped, s.Was = max(s.Dropped, x.Dropped), max(s.Was, x.Was)
	return list
}

// conclude makes the state of what was found: the worst of it counts.
func (a *Answer) conclude() {
	a.Intervals, a.Causes = nil, nil
	for _, x := range joined(a.found) {
		a.count(x)
	}
	for _, s := range a.Causes {
		a.State = max(a.State, s.Cause.State())
		if s.Cause.State() == Lost {
			a.Lost = AddUp(a.Lost, s.N)
		}
		if s.Cause == SerialGap {
			a.Events = s.N
		}
	}
	if a.State == Complete && a.Unsent > 0 && a.Oldest < a.To && a.At-a.Oldest > pendingAfter {
		a.State = Pending
	}
}

// pendingAfter is how old the oldest record that a host holds must be, in milliseconds, for the
// answer to be pending: some are always on their way.
const pendingAfter = 5_000
