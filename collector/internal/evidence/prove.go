package evidence

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/auditfleet/auditfleet/collector/internal/eventtree"
	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
)

// prove writes a proof a batch, in order of their numbers, and then one a group that compaction has made of others.
func (k *maker) prove(ctx context.Context) error {
	var ids []uint64
	for id := range k.batches {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	if err := k.movedBatches(ctx, ids); err != nil {
		return err
	}
	for len(ids) > 0 {
		n, err := k.again(ctx, ids)
		if err != nil {
			return err
		}
		for _, id := range ids[:n] {
			if k.moved[id] {
				continue
			}
			p, pieces, err := k.proof(ctx, id)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil { // why there is none
				p, pieces = k.unproved(id, err), nil
			}
			if err := k.writeProof(p, pieces); err != nil {
				return err
			}
			delete(k.batches, id)
			delete(k.trees, id)
		}
		ids = ids[n:]
	}
	return k.proveMade(ctx)
}

// unproved is the line of events of a batch that are not proved.
func (k *maker) unproved(id uint64, why error) *Proof {
	p := &Proof{Batch: id, Why: text(why.Error()), Events: [][]int64{}}
	if errors.Is(why, errChanged) {
		k.changed = p.Why
	}
	for _, f := range k.batches[id] {
		p.Events = append(p.Events, []int64{f.n})
	}
	return p
}

// writeProof writes a line and the pieces that it has.
func (k *maker) writeProof(p *Proof, pieces [][]byte) error {
	if n := int64(len(p.Events)); p.Why == "" {
		k.About.Proved += n
	} else {
		k.About.Unproved += n
		if k.About.Why = p.Why; k.changed != "" { // it goes before what is only not sealed yet
			k.About.Why = k.changed
		}
	}
	for _, b := range pieces {
		if err := k.write(Pieces, b); err != nil {
			return err
		}
	}
	return k.writeJSON(Proofs, p)
}

// proof makes the proof of a batch, and returns the pieces that it shows; an error says why there is none.
func (k *maker) proof(ctx context.Context, id uint64) (p *Proof, pieces [][]byte, err error) {
	leaf, err := k.leafOf(id)
	if err != nil {
		return nil, nil, err
	}
	p = &Proof{Batch: id, Events: [][]int64{}, Leaf: base64.StdEncoding.EncodeToString(leaf.text), Index: leaf.index}
	var changed error
	if t := k.trees[id]; t != nil && t.why != nil {
		return nil, nil, t.why
	} else if t != nil {
		changed, err = k.byTree(p, t, leaf.Leaf)
	} else {
		err = k.Groups.WithGroup(ctx, id, func(g *group.Group) (err error) {
			if leaf.EventsRoot != (eventtree.Hash{}) {
				changed, err = k.byEvents(p, g, leaf.Leaf)
			} else {
				pieces, changed, err = k.byPieces(p, g, leaf.Leaf)
			}
			return err
		})
	}
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("the batch cannot be read again: %w", err)
	case changed != nil:
		return nil, nil, changed
	}
	p.Path, err = k.path(leaf.index)
	return p, pieces, err
}

// path returns the hashes that lead from a leaf to the checkpoint's root.
func (k *maker) path(index int64) (out []string, err error) {
	path, err := k.Log.Inclusion(index, k.Size)
	if err != nil {
		return nil, fmt.Errorf("the log cannot be read: %w", err)
	}
	for _, h := range path {
		out = append(out, hex.EncodeToString(h[:]))
	}
	return out, nil
}

// loggedLeaf is a batch's leaf in the log.
type loggedLeaf struct {
	*seal.Leaf
	text  []byte
	index int64
}

// leafOf returns the leaf of a batch that can prove events of it.
func (k *maker) leafOf(id uint64) (l loggedLeaf, err error) {
	switch {
	case k.Groups == nil:
		return l, errors.New("the engine that keeps the events does not give batches again, and so none can be compared with the log")
	case k.Log == nil || len(k.Checkpoint) == 0:
		return l, errors.New(k.Why)
	}
	l.index, l.text, err = k.Log.Leaf(id)
	switch {
	case errors.Is(err, seal.ErrLater), err == nil && l.index >= k.Size:
		return l, errors.New("the batch came into the log after the checkpoint")
	case errors.Is(err, seal.ErrNoLeaf) && k.putIn(id):
		return l, fmt.Errorf("%w: the log has no such batch, so its events were PUT IN", errChanged)
	case errors.Is(err, seal.ErrNoLeaf):
		return l, errors.New("the batch was stored before the log was begun")
	case err != nil:
		return l, fmt.Errorf("the log cannot be read: %w", err)
	}
	l.Leaf, err = seal.ParseLeaf(l.text)
	switch {
	case err != nil:
		return l, fmt.Errorf("its leaf cannot be read: %w", err)
	case l.Kind != seal.Batch || l.Batch != id:
		return l, errors.New("the log has another leaf in its place (collector verify)")
	case l.EventsRoot == eventtree.Hash{} && l.Flags&seal.Elsewhere != 0:
		return l, errors.New("the batch went to the cluster without a root of its events in the log: there was no key then (collector seal init), and what is there now may be another thing than what was stored")
	case l.EventsRoot == eventtree.Hash{} && l.Pieces == 0:
		return l, errFlat
	}
	return l, nil
}

// putIn reports whether a batch without a leaf was never stored by the collector, though it is where others may write: the log was begun before it.
func (k *maker) putIn(id uint64) bool {
	began, ok := k.Log.(interface{ Began() (uint64, error) })
	if _, far := k.Groups.(store.Rereader); !ok || !far {
		return false
	}
	first, err := began.Began()
	return err == nil && id > first
}

var errFlat = errors.New("the batch came into the log with nothing but the hash of all of its bytes: by a collector of an earlier version, or damaged")

// errChanged says that a batch is not the one that was stored.
var errChanged = errors.New("the batch is not what the log has of it: it was CHANGED since it was stored (collector verify)")

// TakenOut is in the words of what a bundle lacks, where events are gone that the log has.
const TakenOut = "TAKEN OUT"

// Tampered reports whether a bundle says that something of what was asked about is not as it was stored.
func Tampered(q *Query) bool {
	return strings.HasPrefix(q.Why, errChanged.Error()) || strings.Contains(q.Missing, TakenOut)
}

// byEvents proves the events by the tree over all events of the batch: without any other one. changed says what of
// the batch is not as it was stored.
func (k *maker) byEvents(p *Proof, g *group.Group, leaf *seal.Leaf) (changed, err error) {
	list := k.batches[p.Batch]
	m := k.matcher(list)
	tree, err := g.EventTree(m.match)
	if err != nil {
		return nil, err
	}
	return k.byTree(p, &batchTree{tree: tree, m: m, wanted: len(list)}, leaf)
}

// byTree is byEvents with the tree at hand.
func (k *maker) byTree(p *Proof, t *batchTree, leaf *seal.Leaf) (changed, err error) {
	tree, m := t.tree, t.m
	if t.some != nil {
		switch root, ok := t.some.Root(); {
		case len(m.ordinals) != t.wanted:
			return errGone, nil
		case !ok || root != leaf.EventsRoot || t.some.Len() != int64(leaf.Events):
			return errChanged, nil
		}
		p.Events, p.Of = m.events, t.some.Len()
		return nil, p.rest(t.some, m.ordinals)
	}
	switch {
	case len(m.ordinals) != t.wanted:
		return errGone, nil
	case tree.Root() != leaf.EventsRoot || tree.Len() != int64(leaf.Events):
		return errChanged, nil
	}
	p.Events, p.Of = m.events, tree.Len()
	return nil, p.rest(tree, m.ordinals)
}

var errGone = errors.New("the batch does not have the events that were found any more")

// byPieces proves the events by the pieces of the batch that have them, of which it returns copies. There is room for them: they
// are no more than a batch at rest.
func (k *maker) byPieces(p *Proof, g *group.Group, leaf *seal.Leaf) (shown [][]byte, changed, err error) {
	list := k.batches[p.Batch]
	tree, err := g.PieceTree()
	if err != nil {
		return nil, nil, err
	}
	if tree.Root() != leaf.Hash || uint64(tree.Len()) != leaf.Pieces {
		return nil, errChanged, nil
	}
	m := k.matcher(list)
	if err := g.Find(k.hosts, m.match); err != nil {
		return nil, nil, err
	}
	if len(m.ordinals) != len(list) {
		return nil, errGone, nil
	}
	p.Events = m.events
	shown, err = k.show(p, g, tree, m.ordinals)
	return shown, nil, err
}

// show puts into a proof the pieces of a group that have some of its events, and returns copies of them.
func (k *maker) show(p *Proof, g *group.Group, tree *eventtree.Tree, ordinals []int64) (shown [][]byte, err error) {
	needed, err := g.Needed(ordinals)
	if err != nil {
		return nil, err
	}
	pieces, err := g.Pieces()
	if err != nil {
		return nil, err
	}
	at := k.sizes[Pieces]
	for _, n := range needed {
		b := bytes.Clone(pieces[n])
		p.Pieces = append(p.Pieces, []int64{n, at, int64(len(b))})
		shown = append(shown, b)
		at += int64(len(b))
	}
	p.Of = tree.Len()
	return shown, p.rest(tree, needed)
}

// rest adds the hashes of a tree that the known leaves do not give.
func (p *Proof) rest(tree interface {
	Prove(known []int64) ([]eventtree.Hash, error)
}, known []int64) error {
	hashes, err := tree.Prove(known)
	for _, h := range hashes {
		p.Tree = append(p.Tree, hex.EncodeToString(h[:]))
	}
	return err
}

// matcher finds the ordinals of events by their hashes.
type matcher struct {
	wanted   map[eventtree.Hash][]int64 // the lines that have it
	events   [][]int64                  // as a proof has them
	ordinals []int64
}

func (k *maker) matcher(list []found) *matcher {
	m := &matcher{wanted: map[eventtree.Hash][]int64{}, events: [][]int64{}}
	for _, f := range list {
		m.wanted[f.hash] = append(m.wanted[f.hash], f.n)
	}
	return m
}

func (m *matcher) match(ordinal int64, hash, mixed eventtree.Hash) {
	lines := m.wanted[mixed]
	if len(lines) == 0 {
		return
	}
	m.wanted[mixed] = lines[1:]
	one := []int64{lines[0], ordinal}
	if mixed != hash {
		one = append(one, 1)
	}
	m.events, m.ordinals = append(m.events, one), append(m.ordinals, ordinal)
}
