package eventtree

import "fmt"

// A batch may be numbered class by class, and lose one of these later. What stays is proved by the hashes that complete the root around it, made while all was there.

// ProveRanges returns the root, and what Prove returns for the events of each of some ranges, which follow one another from the first event to the last; each is
// given by its end. It hashes each event's way up once.
func (t *Tree) ProveRanges(ends []int64) (root Hash, proofs [][]Hash) {
	if len(ends) == 0 || len(t.leaves) == 0 {
		return t.Root(), nil
	}
	r := ranger{leaves: t.leaves, ends: ends, proofs: make([][]Hash, len(ends))}
	return r.visit(0, int64(len(t.leaves)), 0, len(ends)), r.proofs
}

// ranger is one computation of the proofs of ranges.
type ranger struct {
	leaves []Hash
	ends   []int64
	proofs [][]Hash
}

// visit returns the hash of a subtree. The ranges from one to before another have events in the subtree above: those that have none in this one need its hash.
func (r *ranger) visit(first, n int64, from, to int) (h Hash) {
	// Ranges ascend, so those with events here are in a row.
	a, b := from, to
	for a < to && r.ends[a] <= first {
		a++
	}
	for b > a && b-1 > 0 && r.ends[b-2] >= first+n {
		b--
	}
	if n == 1 || b-a <= 1 && r.covers(a, first, n) {
		h = rootOf(r.leaves[first : first+n])
	} else {
		k := split(n)
		left := r.visit(first, k, a, b)
		h = node(left, r.visit(first+k, n-k, a, b))
	}
	for i := from; i < to; i++ {
		if i < a || i >= b {
			r.proofs[i] = append(r.proofs[i], h)
		}
	}
	return h
}

// covers reports whether a range has all events of a subtree.
func (r *ranger) covers(i int, first, n int64) bool {
	begin := int64(0)
	if i > 0 {
		begin = r.ends[i-1]
	}
	return begin <= first && first+n <= r.ends[i]
}

// Partial is a tree of which only some events are known, and hashes of what lies around them.
type Partial struct {
	leaves []Hash // zero: not known
	nodes  map[[2]int64]Hash
}

// NewPartial returns a tree of events of which some may be zero, which are not known.
func NewPartial(leaves []Hash) *Partial {
	return &Partial{leaves: leaves, nodes: map[[2]int64]Hash{}}
}

// Around takes the hashes that ProveRanges has made for a range of the events. Nobody vouches for them: with others the root is another one. Error: ErrProof.
func (p *Partial) Around(first, n int64, proof []Hash) error {
	all := int64(len(p.leaves))
	if first < 0 || n < 1 || n > all || first > all-n {
		return fmt.Errorf("%w: events from %d on, %d of them, of %d", ErrProof, first, n, all)
	}
	rest := proof
	var walk func(at, m int64) bool
	walk = func(at, m int64) bool {
		switch {
		case at+m <= first || first+n <= at: // none of the range
			if len(rest) == 0 {
				return false
			}
			p.nodes[[2]int64{at, m}], rest = rest[0], rest[1:]
			return true
		case first <= at && at+m <= first+n || m == 1:
			return true
		}
		k := split(m)
		return walk(at, k) && walk(at+k, m-k)
	}
	if !walk(0, all) || len(rest) > 0 {
		return fmt.Errorf("%w: %d hashes for %d of %d events are not what these need", ErrProof, len(proof), n, all)
	}
	return nil
}

// Len returns the number of events.
func (p *Partial) Len() int64 { return int64(len(p.leaves)) }

// Root returns the root; it is not ok where that does not follow from what is known. Each event that is known is in it: what lies around is only taken where
// no event is known.
func (p *Partial) Root() (root Hash, ok bool) {
	root, _, ok = p.hash(0, int64(len(p.leaves)))
	return root, ok
}

// hash returns the hash of a subtree, and whether some event of it is known. Then it follows from its events or not at all: a hash that is handed in for the whole of
// it would be the right one whatever has become of these events. Ranges that were proved by ProveRanges never need one: what lies around a range has none of its events.
func (p *Partial) hash(first, n int64) (h Hash, some, ok bool) {
	switch {
	case n == 0:
		return (&Tree{}).Root(), false, true
	case n == 1 && p.leaves[first] != (Hash{}):
		return p.leaves[first], true, true
	case n > 1:
		k := split(n)
		left, inLeft, isLeft := p.hash(first, k)
		right, inRight, isRight := p.hash(first+k, n-k)
		if isLeft && isRight {
			return node(left, right), inLeft || inRight, true
		}
		if inLeft || inRight {
			return Hash{}, true, false
		}
	}
	h, ok = p.nodes[[2]int64{first, n}]
	return h, false, ok
}

// Prove is Tree.Prove of events that are known.
func (p *Partial) Prove(ordinals []int64) (out []Hash, err error) {
	if err := ascending(ordinals, p.Len()); err != nil {
		return nil, err
	}
	var walk func(first, n int64, ordinals []int64) bool
	walk = func(first, n int64, ordinals []int64) bool {
		switch {
		case len(ordinals) == 0:
			h, _, ok := p.hash(first, n)
			out = append(out, h)
			return ok
		case n == 1:
			return true
		}
		k := split(n)
		at := 0
		for at < len(ordinals) && ordinals[at] < first+k {
			at++
		}
		return walk(first, k, ordinals[:at]) && walk(first+k, n-k, ordinals[at:])
	}
	if p.Len() > 0 && !walk(0, p.Len(), ordinals) {
		return nil, fmt.Errorf("%w: hashes of events that are gone are not known", ErrProof)
	}
	return out, nil
}
