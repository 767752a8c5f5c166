package group

import (
	"github.com/auditfleet/auditfleet/collector/internal/eventtree"
	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// Division returns of which classes the events are, as it was decided when the group was sealed; nil: they are not divided. Error: store.ErrDamaged.
func (g *Group) Division() (*store.Division, error) {
	b, err := g.section(secClasses, 0)
	if err != nil || b == nil {
		return nil, err
	}
	return store.DecodeDivision(b, g.Summary.Events)
}

// placed puts the hashes of a batch's events, which come in their order at rest, in that of their places, and returns the tree over them.
func placed(d *store.Division, hashes []eventtree.Hash) *eventtree.Tree {
	t := eventtree.NewTree(len(hashes))
	if d != nil {
		hashes = inPlaces(d, hashes)
	}
	for _, h := range hashes {
		t.Add(h)
	}
	return t
}

// inPlaces returns a list that has as many as a division in the order of places.
func inPlaces[T any](d *store.Division, list []T) []T {
	out := make([]T, len(list))
	next := d.Places()
	for i := range list {
		if _, place := next(); place < uint64(len(out)) {
			out[place] = list[i]
		}
	}
	return out
}

// proveClasses puts into a division the proofs of its classes, and returns the root.
func proveClasses(d *store.Division, tree *eventtree.Tree) eventtree.Hash {
	ends := make([]int64, len(d.Classes))
	for i := range d.Classes {
		ends[i] = int64(d.Classes[i].First + d.Classes[i].Events)
	}
	root, proofs := tree.ProveRanges(ends)
	for i := range proofs {
		d.Classes[i].Proof = proofs[i]
	}
	return root
}
