package ledger

import (
	"cmp"
	"slices"
)

// Span is a time, from From up to before To, in milliseconds since 1970.
type Span struct{ From, To int64 }

// Spans are times in order that neither overlap nor touch.
type Spans []Span

// Add adds a time. An empty one changes nothing.
func (s *Spans) Add(from, to int64) {
	if from >= to {
		return
	}
	l := *s
	if n := len(l); n > 0 && from >= l[n-1].From { // nearly always
		if from <= l[n-1].To {
			l[n-1].To = max(l[n-1].To, to)
			return
		}
		*s = append(l, Span{from, to})
		return
	}
	// i is the first that ends at from or later, j the first that begins beyond to.
	i, _ := slices.BinarySearchFunc(l, from, func(x Span, at int64) int { return cmp.Compare(x.To, at) })
	j := i
	for j < len(l) && l[j].From <= to {
		from, to = min(from, l[j].From), max(to, l[j].To)
		j++
	}
	*s = slices.Replace(l, i, j, Span{from, to})
}

// maxSpans is how many times of a kind a row tells apart: as many breaks as a host has that starts its forwarder
// again every ten minutes of a day. Who sends old logs by turns can make one of any two records.
const maxSpans = 128

// bound lets go of the shortest times where there are twice as many as there may be. They are unknown then: to join what lies
// apart would claim what nobody has said.
func (s *Spans) bound(most int) {
	l := *s
	if len(l) < 2*most {
		return
	}
	long := make([]int64, len(l))
	for i, x := range l {
		long[i] = x.To - x.From
	}
	slices.Sort(long)
	least := long[len(l)-most]
	same := 0 // of the least length, how many may stay
	for _, n := range long[len(l)-most:] {
		if n == least {
			same++
		}
	}
	*s = slices.DeleteFunc(l, func(x Span) bool {
		n := x.To - x.From
		if n == least {
			same--
		}
		return n < least || n == least && same < 0
	})
}

// Within returns the parts of s that lie in a time.
func (s Spans) Within(from, to int64) Spans {
	var out Spans
	i, _ := slices.BinarySearchFunc(s, from, func(x Span, at int64) int { return cmp.Compare(x.To, at) })
	for ; i < len(s) && s[i].From < to; i++ {
		if f, t := max(s[i].From, from), min(s[i].To, to); f < t {
			out = append(out, Span{f, t})
		}
	}
	return out
}

// Without returns what of a time s does not have.
func (s Spans) Without(from, to int64) Spans {
	var out Spans
	for _, x := range s.Within(from, to) {
		if from < x.From {
			out = append(out, Span{from, x.From})
		}
		from = x.To
	}
	if from < to {
		out = append(out, Span{from, to})
	}
	return out
}

// Has reports whether all of a time is in s.
func (s Spans) Has(from, to int64) bool { return len(s.Without(from, to)) == 0 }
