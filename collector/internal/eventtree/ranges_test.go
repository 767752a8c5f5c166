package eventtree

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

// What Prove says of a range is what ProveRanges says, and whatever ranges are gone, the root and the proofs of the others' events stay what they were.
func TestRanges(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	for n := 1; n < 70; n++ {
		tree := some(n)
		for range 10 {
			var ends []int64
			for e := int64(0); e < int64(n); {
				e += 1 + r.Int64N(int64(n)-e)
				ends = append(ends, e)
			}
			root, proofs := tree.ProveRanges(ends)
			if root != tree.Root() {
				t.Fatalf("%d events, ranges to %v: another root", n, ends)
			}
			leaves, gone := slices.Clone(tree.leaves), make([]bool, len(ends))
			first, stay := int64(0), 0
			for i, end := range ends {
				var of []int64
				for o := first; o < end; o++ {
					of = append(of, o)
				}
				want, err := tree.Prove(of)
				if err != nil || !slices.Equal(want, proofs[i]) {
					t.Fatalf("%d events, range %d of %v: %d hashes, want %d, %v", n, i, ends, len(proofs[i]), len(want), err)
				}
				if gone[i] = r.IntN(2) == 0 && stay+len(ends)-i > 1; gone[i] {
					clear(leaves[first:end])
				} else {
					stay++
				}
				first = end
			}
			checkPartial(t, r, tree, leaves, ends, gone, proofs)
		}
	}
}

func checkPartial(t *testing.T, r *rand.Rand, tree *Tree, leaves []Hash, ends []int64, gone []bool, proofs [][]Hash) {
	t.Helper()
	make := func(bad int) *Partial {
		p, first := NewPartial(leaves), int64(0)
		for i, end := range ends {
			proof := slices.Clone(proofs[i])
			if i == bad && len(proof) > 0 {
				proof[r.IntN(len(proof))][5] ^= 1
			}
			if !gone[i] {
				if err := p.Around(first, end-first, proof); err != nil {
					t.Fatal(err)
				}
			}
			first = end
		}
		return p
	}
	p := make(-1)
	if root, ok := p.Root(); !ok || root != tree.Root() {
		t.Fatalf("%d events, ranges to %v, gone %v: the root is another one, or not known: %v", len(leaves), ends, gone, ok)
	}
	for o := range leaves {
		if leaves[o] == (Hash{}) {
			continue
		}
		want, err := tree.Prove([]int64{int64(o)})
		got, perr := p.Prove([]int64{int64(o)})
		if err != nil || perr != nil || !slices.Equal(got, want) {
			t.Fatalf("event %d of %d, ranges to %v, gone %v: %v, %v", o, len(leaves), ends, gone, err, perr)
		}
		was := leaves[o]
		leaves[o][3] ^= 1
		if root, ok := p.Root(); ok && root == tree.Root() {
			t.Fatalf("event %d of %d is another one, and the root the same", o, len(leaves))
		}
		leaves[o] = was
	}
	if bad := slices.Index(gone, false); slices.Contains(gone, true) {
		if root, ok := make(bad).Root(); ok && root != tree.Root() {
			return // it may also be a hash that is not needed
		}
	}
	if err := p.Around(0, int64(len(leaves))+1, nil); !errors.Is(err, ErrProof) {
		t.Errorf("beyond the end: %v", err)
	}
}

// A hash that is handed in for events that are known says nothing of them, whoever may leave out what is handed in with these, or put in a range that never was.
func TestRangesWithheld(t *testing.T) {
	t.Parallel()
	tree := some(64)
	ends := []int64{10, 20, 64} // the first range is gone
	_, proofs := tree.ProveRanges(ends)
	leaves := slices.Clone(tree.leaves)
	clear(leaves[:10])
	_, forged := tree.ProveRanges([]int64{16, 20, 64}) // for its second range, which has the hash of all events before
	for name, around := range map[string]func(p *Partial) error{
		"all are given":        func(p *Partial) error { return errors.Join(p.Around(10, 10, proofs[1]), p.Around(20, 44, proofs[2])) },
		"one is withheld":      func(p *Partial) error { return p.Around(20, 44, proofs[2]) },
		"one that never was":   func(p *Partial) error { return p.Around(16, 4, forged[1]) },
		"both, and none of it": func(p *Partial) error { return errors.Join(p.Around(20, 44, proofs[2]), p.Around(16, 4, forged[1])) },
	} {
		p := NewPartial(slices.Clone(leaves))
		if err := around(p); err != nil {
			t.Fatal(err)
		}
		if root, ok := p.Root(); ok != (name == "all are given") || ok && root != tree.Root() {
			t.Errorf("%s: a root is made: %v, the right one: %v", name, ok, root == tree.Root())
		}
		for i := int64(10); i < 16; i++ {
			p.leaves[i][3] ^= 1
		}
		if root, ok := p.Root(); ok && root == tree.Root() {
			t.Errorf("%s: events are other ones, and the root is the same", name)
		}
		if _, err := p.Prove([]int64{30}); name != "all are given" && !errors.Is(err, ErrProof) {
			t.Errorf("%s: an event is proved: %v", name, err)
		}
	}
}
