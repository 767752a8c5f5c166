package eventtree

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/bits"
	"slices"
)

// What stands before the bytes of a leaf and of a node, as RFC 6962 has it: neither can be taken
// for the other.
const (
	leafPrefix = 0
	nodePrefix = 1
)

// MaxEvents bounds a tree: no group has more events.
const MaxEvents = 1 << 31

// ErrProof is returned for a proof that does not fit the events that it is given with.
var ErrProof = errors.New("the proof does not fit")

// Tree has the hashes of a group's events, in order of their ordinals.
type Tree struct{ leaves []Hash }

// NewTree returns a tree with room for the hashes of n events.
func NewTree(n int) *Tree { return &Tree{leaves: make([]Hash, 0, n)} }

// Add appends an event's hash.
func (t *Tree) Add(h Hash) { t.leaves = append(t.leaves, h) }

// Len returns the number of events.
func (t *Tree) Len() int64 { return int64(len(t.leaves)) }

// Root returns the root over all events. That of none is the SHA-256 of nothing.
func (t *Tree) Root() Hash {
	if len(t.leaves) == 0 {
		return sha256.Sum256(nil)
	}
	return rootOf(t.leaves)
}

// Event returns the hash of the event with an ordinal.
func (t *Tree) Event(ordinal int64) Hash { return t.leaves[ordinal] }

func rootOf(leaves []Hash) Hash {
	if len(leaves) == 1 {
		return leaves[0]
	}
	k := split(int64(len(leaves)))
	return node(rootOf(leaves[:k]), rootOf(leaves[k:]))
}

// split returns how many of n leaves, two at least, are in the left subtree: the greatest power of
// two below n.
func split(n int64) int64 { return 1 << (bits.Len64(uint64(n-1)) - 1) }

func node(left, right Hash) Hash {
	var b [1 + 2*sha256.Size]byte
	b[0] = nodePrefix
	copy(b[1:], left[:])
	copy(b[1+sha256.Size:], right[:])
	return sha256.Sum256(b[:])
}

// Known is an event that a proof is for: its ordinal and hash.
type Known struct {
	Ordinal int64
	Hash    Hash
}

// Prove returns the hashes that Root needs beside those of the events with the given ordinals,
// ascending and each once: of each greatest subtree without any of them, from left to right.
func (t *Tree) Prove(ordinals []int64) ([]Hash, error) {
	if err := ascending(ordinals, t.Len()); err != nil {
		return nil, err
	}
	return prove(nil, t.leaves, 0, ordinals), nil
}

func prove(out, leaves []Hash, first int64, ordinals []int64) []Hash {
	switch {
	case len(ordinals) == 0 && len(leaves) > 0:
		return append(out, rootOf(leaves))
	case len(leaves) <= 1:
		return out
	}
	k := split(int64(len(leaves)))
	at, _ := slices.BinarySearch(ordinals, first+k)
	out = prove(out, leaves[:k], first, ordinals[:at])
	return prove(out, leaves[k:], first+k, ordinals[at:])
}

// Root returns the root of a tree of n events, of which some are known, by their ordinals
// ascending, and the rest by a proof as Prove makes it. Error: ErrProof.
func Root(n int64, known []Known, proof []Hash) (Hash, error) {
	if n < 1 || n > MaxEvents {
		return Hash{}, fmt.Errorf("%w: a group of %d events", ErrProof, n)
	}
	ordinals := make([]int64, len(known))
	for i := range known {
		ordinals[i] = known[i].Ordinal
	}
	if err := ascending(ordinals, n); err != nil {
		return Hash{}, err
	}
	w := walk{proof: proof}
	root := w.root(0, n, known)
	if w.short || len(w.proof) > 0 {
		return Hash{}, fmt.Errorf("%w: %d hashes for %d of %d events are not what these need", ErrProof, len(proof), len(known), n)
	}
	return root, nil
}

// walk is one computation of a root: the hashes of the proof that are not used yet.
type walk struct {
	proof []Hash
	short bool // there were too few
}

func (w *walk) root(first, n int64, known []Known) Hash {
	switch {
	case len(known) == 0:
		if len(w.proof) == 0 {
			w.short = true
			return Hash{}
		}
		h := w.proof[0]
		w.proof = w.proof[1:]
		return h
	case n == 1:
		return known[0].Hash
	}
	k := split(n)
	at, _ := slices.BinarySearchFunc(known, first+k, func(e Known, ordinal int64) int { return int(e.Ordinal - ordinal) })
	left := w.root(first, k, known[:at])
	return node(left, w.root(first+k, n-k, known[at:]))
}

// ascending checks ordinals of a tree of n events.
func ascending(ordinals []int64, n int64) error {
	before := int64(-1)
	for _, o := range ordinals {
		if o <= before || o >= n {
			return fmt.Errorf("%w: event %d of %d, behind event %d", ErrProof, o, n, before)
		}
		before = o
	}
	return nil
}
