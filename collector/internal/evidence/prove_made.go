package evidence

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/eventtree"
	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Events of batches that compaction has written again. Where the log has the root of a batch's events, they are proved as ever: the tree over all of the batch's events is
// made again, of what was made of it. Else they are proved by the pieces of the group in which they are now.

// batchTree is the tree over the events of a batch, and which of them were found.
type batchTree struct {
	tree   *eventtree.Tree
	some   *eventtree.Partial // instead of tree: of a batch of which classes were dropped
	m      *matcher
	wanted int
	tied   bool  // the order of some is not known
	why    error // why it proves nothing; nil: it may
}

// treeCost is about what an event takes in a tree.
const treeCost = 32

// movedBatches finds out which batches were written again, and makes the trees of those that can be proved by one.
func (k *maker) movedBatches(ctx context.Context, ids []uint64) error {
	again, ok := k.Groups.(Compacted)
	if !ok {
		return nil
	}
	want := map[uint64]bool{}
	for _, id := range ids {
		err := k.Groups.WithGroup(ctx, id, func(*group.Group) error { return nil })
		if !errors.Is(err, store.ErrNoDay) {
			continue // what else is wrong is said later
		}
		leaf, err := k.leafOf(id)
		if err == nil && leaf.EventsRoot != (eventtree.Hash{}) {
			if !k.Memory.Take(int(min(leaf.Events, 1<<40)) * treeCost) {
				return query.ErrMemory
			}
			want[id] = true
			k.trees[id] = &batchTree{tree: &eventtree.Tree{}, m: k.matcher(k.batches[id]), wanted: len(k.batches[id])}
			continue
		}
		k.moved[id] = true
	}
	if len(want) == 0 {
		return ctx.Err()
	}
	err := again.MergeMade(ctx, want, k.merge)
	if err != nil && !errors.Is(err, store.ErrDamaged) {
		return err
	}
	for id, t := range k.trees {
		leaf, lerr := k.leafOf(id)
		// What cannot be read as a whole, or in its order, is proved by pieces.
		if err != nil || lerr != nil || uint64(t.tree.Len()) != leaf.Events || t.tied && t.tree.Root() != leaf.EventsRoot {
			delete(k.trees, id)
			k.moved[id] = true
		}
	}
	return nil
}

// merge adds the events of batches to their trees.
func (k *maker) merge(m *group.Merger) error {
	for {
		e, err := m.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		t := k.trees[e.Batch]
		hash, mixed := m.Hash()
		t.tied = t.tied || e.Tied
		t.m.match(t.tree.Len(), hash, mixed)
		t.tree.Add(hash)
	}
}

// movedEvent is an event that is looked for in what was made.
type movedEvent struct {
	batch uint64
	hash  eventtree.Hash
}

// proveMade writes a proof for each group that has events of batches that were written again.
func (k *maker) proveMade(ctx context.Context) error {
	if len(k.moved) == 0 {
		return nil
	}
	wanted := map[movedEvent][]int64{} // the lines
	hashes := map[eventtree.Hash]bool{}
	why := map[uint64]error{}
	for id := range k.moved {
		if _, err := k.loggedBatch(id); err != nil {
			why[id] = err
			continue
		}
		for _, f := range k.batches[id] {
			e := movedEvent{id, f.hash}
			wanted[e], hashes[f.hash] = append(wanted[e], f.n), true
		}
	}
	if err := k.eachMade(ctx, wanted, hashes, why); err != nil {
		return err
	}
	var ids []uint64
	for id := range k.moved {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	left := map[int64]bool{}
	for _, lines := range wanted {
		for _, n := range lines {
			left[n] = true
		}
	}
	for _, id := range ids {
		if why[id] == nil {
			k.batches[id] = slices.DeleteFunc(k.batches[id], func(f found) bool { return !left[f.n] })
		}
		if len(k.batches[id]) == 0 {
			continue
		}
		reason := why[id]
		if reason == nil {
			reason = errGone
		}
		if err := k.writeProof(k.unproved(id, reason), nil); err != nil {
			return err
		}
	}
	k.batches = nil
	return nil
}

// eachMade looks for the events in the groups that may have them, and writes proofs. It takes what it has found out of wanted.
func (k *maker) eachMade(ctx context.Context, wanted map[movedEvent][]int64, hashes map[eventtree.Hash]bool, why map[uint64]error) error {
	if len(wanted) == 0 {
		return nil
	}
	some := func(first, last uint64) bool {
		for id := range k.moved {
			if first <= id && id <= last && why[id] == nil {
				return true
			}
		}
		return false
	}
	return k.Groups.(Compacted).EachMade(ctx, some, k.span[0], k.span[1], func(part string, number int, g *group.Group) error {
		p := &Proof{Made: &MadeGroup{part, number}, Events: [][]int64{}}
		var at []int64
		var is []eventtree.Hash
		var mixed []bool
		err := g.Find(k.hosts, func(ordinal int64, hash, named eventtree.Hash) {
			if hashes[named] {
				at, is, mixed = append(at, ordinal), append(is, named), append(mixed, named != hash)
			}
		})
		if err != nil {
			return err
		}
		batches, err := g.BatchesOf(at)
		if err != nil {
			return err
		}
		var ordinals []int64
		of := map[uint64]bool{}
		for i := range at {
			e := movedEvent{batches[i], is[i]}
			lines := wanted[e]
			if len(lines) == 0 {
				continue
			}
			one := []int64{lines[0], at[i]}
			if mixed[i] {
				one = append(one, 1)
			}
			if wanted[e] = lines[1:]; len(lines) == 1 {
				delete(wanted, e)
			}
			p.Events, ordinals, of[e.batch] = append(p.Events, one), append(ordinals, at[i]), true
		}
		if len(ordinals) == 0 {
			return nil
		}
		pieces, err := k.madeProof(p, g, ordinals, of)
		if err != nil {
			return k.notMade(p, batches, at, ordinals, err)
		}
		k.made = true
		return k.writeProof(p, pieces)
	})
}

// notMade writes lines for events that are there and cannot be proved.
func (k *maker) notMade(p *Proof, batches []uint64, at, ordinals []int64, why error) error {
	k.made = true // the events of a batch may be on several lines
	by := map[uint64]*Proof{}
	var ids []uint64
	for i, e := range p.Events {
		j, _ := slices.BinarySearch(at, ordinals[i])
		id := batches[j]
		if by[id] == nil {
			by[id] = &Proof{Batch: id, Why: text(why.Error()), Events: [][]int64{}}
			ids = append(ids, id)
		}
		by[id].Events = append(by[id].Events, []int64{e[0]})
	}
	slices.Sort(ids)
	for _, id := range ids {
		slices.SortFunc(by[id].Events, func(a, b []int64) int { return int(a[0] - b[0]) })
		if err := k.writeProof(by[id], nil); err != nil {
			return err
		}
	}
	return nil
}

// madeProof fills in the proof of a group that compaction has made, and returns the pieces that it shows.
func (k *maker) madeProof(p *Proof, g *group.Group, ordinals []int64, batches map[uint64]bool) (pieces [][]byte, err error) {
	leaf, err := k.makerOf(p.Made.Partition)
	if err != nil {
		return nil, err
	}
	is := madeGroup(leaf.Leaf, p.Made)
	tree, err := g.PieceTree()
	if err != nil {
		return nil, err
	}
	if is == nil || tree.Root() != is.Hash || uint64(tree.Len()) != is.Pieces {
		return nil, errChanged
	}
	p.Leaf, p.Index = base64.StdEncoding.EncodeToString(leaf.text), leaf.index
	if p.Path, err = k.path(leaf.index); err != nil {
		return nil, err
	}
	var ids []uint64
	for id := range batches {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	parts := map[string]bool{}
	for _, id := range ids {
		l, err := k.loggedBatch(id)
		if err != nil {
			return nil, err
		}
		one, err := k.logged(&l)
		if err != nil {
			return nil, err
		}
		p.Batches, parts[l.Part] = append(p.Batches, one), true
	}
	if err := k.before(p, leaf.Leaf, leaf.index, parts); err != nil {
		return nil, err
	}
	return k.show(p, g, tree, ordinals)
}

// madeGroup returns what a leaf says of a group; nil where it says nothing of it.
func madeGroup(l *seal.Leaf, of *MadeGroup) *seal.MadeGroup {
	for i := range l.Made {
		if m := &l.Made[i]; m.Part == of.Partition && of.Group >= 1 && of.Group <= len(m.Groups) {
			return &m.Groups[of.Group-1]
		}
	}
	return nil
}

// before adds the leaves of what was written again before a partition was made of it, as far as that leads to the parts in which batches were stored.
func (k *maker) before(p *Proof, l *seal.Leaf, index int64, parts map[string]bool) error {
	type one struct {
		leaf  *loggedLeaf
		index int64
	}
	seen := map[int64]bool{index: true}
	var list []one
	queue := []*seal.Leaf{l}
	for len(queue) > 0 {
		l := queue[0]
		queue = queue[1:]
		for i := range l.Sources {
			if parts[l.Sources[i].Part] {
				continue
			}
			by, err := k.makerOf(l.Sources[i].Part)
			if errors.Is(err, seal.ErrNoLeaf) {
				continue // no batch of the bundle was stored there
			}
			if err != nil {
				return err
			}
			if !seen[by.index] {
				seen[by.index] = true
				list, queue = append(list, one{&by, by.index}), append(queue, by.Leaf)
			}
		}
	}
	slices.SortFunc(list, func(a, b one) int { return int(b.index - a.index) })
	for _, x := range list {
		one, err := k.logged(x.leaf)
		if err != nil {
			return err
		}
		p.Before = append(p.Before, one)
	}
	return nil
}

// logged returns a leaf as a proof has it.
func (k *maker) logged(l *loggedLeaf) (out LoggedLeaf, err error) {
	out = LoggedLeaf{Leaf: base64.StdEncoding.EncodeToString(l.text), Index: l.index}
	if out.Path, err = k.path(l.index); out.Path == nil {
		out.Path = []string{}
	}
	return out, err
}

// makerOf returns the leaf that says how a partition was made. Errors: seal.ErrNoLeaf, and why it proves nothing.
func (k *maker) makerOf(part string) (l loggedLeaf, err error) {
	if l.index, l.text, err = k.Log.MadeBy(part); err != nil {
		return l, fmt.Errorf("the log has no word of how partition %s was made: %w", part, err)
	}
	if l.index >= k.Size {
		return l, errors.New("the batch was written again by compaction after the checkpoint")
	}
	l.Leaf, err = seal.ParseLeaf(l.text)
	switch {
	case err != nil:
		return l, fmt.Errorf("its leaf cannot be read: %w", err)
	case l.Flags&seal.Found != 0:
		return l, errors.New("the batch was written again by compaction, and the log was begun anew since: it is sealed as it was found")
	case l.Voucher.Name == "":
		return l, errors.New("the batch was written again by compaction when the log had no key")
	}
	return l, nil
}

// loggedBatch returns the leaf of a batch, whether it can prove events by itself or not.
func (k *maker) loggedBatch(id uint64) (l loggedLeaf, err error) {
	l, err = k.leafOf(id)
	if errors.Is(err, errFlat) {
		err = nil
	}
	return l, err
}
