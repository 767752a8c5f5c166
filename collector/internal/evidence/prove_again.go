package evidence

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/eventtree"
	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Events of batches that an engine elsewhere has. The log has the root of the tree over a batch's events, which is made again of what is there now: where the root
// is another one, something of the batch was changed there since it was stored, and no event of it is proved.

// again makes the trees of the first of these batches, of as many as are read at once, and returns how many. Of batches in the collector's own files it makes none.
func (k *maker) again(ctx context.Context, ids []uint64) (n int, err error) {
	far, ok := k.Groups.(store.Rereader)
	if !ok {
		return len(ids), nil
	}
	var list []*store.Reread
	leaves := map[uint64]*seal.Leaf{}
	events := uint64(0)
	for ; n < len(ids) && n < store.RereadBatches; n++ {
		leaf, err := k.leafOf(ids[n])
		if err != nil || leaf.Flags&seal.Elsewhere == 0 || leaf.EventsRoot == (eventtree.Hash{}) {
			continue // proof says so
		}
		if n > 0 && events+leaf.Events > store.RereadEvents {
			break
		}
		events += leaf.Events
		here, err := k.waits(ctx, ids[n])
		if err != nil {
			return 0, err
		}
		if here {
			continue
		}
		part, err := store.ParsePart(leaf.Part)
		if err != nil || leaf.Events > eventtree.MaxEvents {
			k.trees[ids[n]] = &batchTree{why: fmt.Errorf("its leaf cannot be read: %w", errors.Join(err, seal.ErrDamaged))}
			continue
		}
		leaves[ids[n]] = leaf.Leaf
		list = append(list, &store.Reread{Batch: ids[n], Day: part.Day, Events: leaf.Events})
	}
	if more := int(min(events, 1<<40)) * againCost; more > k.reading {
		if !k.Memory.Take(more - k.reading) {
			return 0, query.ErrMemory
		}
		k.reading = more
	}
	if len(list) == 0 {
		return n, ctx.Err()
	}
	if err := far.Reread(ctx, list, true); err != nil {
		return 0, fmt.Errorf("compare what is stored with the log: %w", err)
	}
	torn := slices.DeleteFunc(slices.Clone(list), func(r *store.Reread) bool { l := leaves[r.Batch]; return !r.Torn(store.DividedOf(l.Why, l.Events)) })
	if len(torn) > 0 {
		if err := far.Reread(ctx, torn, true); err != nil {
			return 0, fmt.Errorf("compare what is stored with the log: %w", err)
		}
	}
	for _, r := range list {
		k.trees[r.Batch] = k.treeOf(r, leaves[r.Batch])
	}
	return n, nil
}

// againCost is about what an event takes while it is read again.
const againCost = 170

// waits makes the tree of a batch that is still in the collector's own files, where it is.
func (k *maker) waits(ctx context.Context, id uint64) (is bool, err error) {
	list := k.batches[id]
	t := &batchTree{m: k.matcher(list), wanted: len(list)}
	err = k.Groups.WithGroup(ctx, id, func(g *group.Group) (err error) {
		t.tree, err = g.EventTree(t.m.match)
		return err
	})
	switch {
	case errors.Is(err, store.ErrNoDay):
		return false, nil
	case ctx.Err() != nil:
		return false, ctx.Err()
	case err != nil:
		t.why = fmt.Errorf("the batch cannot be read again: %w", err)
	}
	k.trees[id] = t
	return true, nil
}

// treeOf makes the tree of what was read again of a batch, or says why that is not what was stored. Of a batch that was divided by classes some may be dropped: that others stay
// is proved all the same.
func (k *maker) treeOf(r *store.Reread, leaf *seal.Leaf) *batchTree {
	lost := r.Lost(store.DividedOf(leaf.Why, leaf.Events))
	for _, d := range lost {
		if slices.ContainsFunc(r.Drops, func(x store.DroppedPart) bool { return store.IsDropOf(x.Class, d.Name) }) {
			r.Without(d)
		}
	}
	if r.Rest() == 0 && r.Events > 0 {
		return &batchTree{why: errors.New("the day of the batch was dropped while the bundle was made")}
	}
	if differs := r.Differs(); differs != "" {
		return &batchTree{why: fmt.Errorf("%w: %s", errChanged, differs)}
	}
	list := k.batches[r.Batch]
	t := &batchTree{some: eventtree.NewPartial(r.Hashes), m: k.matcher(list), wanted: len(list)}
	for _, d := range r.Around {
		_ = t.some.Around(int64(min(d.First, 1<<40)), int64(min(d.Events, 1<<40)), d.Proof) // what does not fit makes no root
	}
	for i, hash := range r.Hashes {
		if hash == (eventtree.Hash{}) {
			continue
		}
		mixed, is := r.Mixed[uint64(i)]
		if !is {
			mixed = hash
		}
		t.m.match(int64(i), hash, mixed)
	}
	if root, ok := t.some.Root(); !ok || root != leaf.EventsRoot {
		return &batchTree{why: fmt.Errorf("%w: the text, sender or receipts of some of its %d events", errChanged, r.Rest())}
	}
	if r.Rest() < r.Events && len(t.m.ordinals) < t.wanted {
		return &batchTree{why: errors.New("a class of the batch was dropped while the bundle was made")}
	}
	return t
}
