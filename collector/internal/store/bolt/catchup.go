package bolt

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/eventtree"
	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
)

// A batch's leaf lies in its partition from the batch's own transaction on: with the root of the tree over its
// events where there is a key by which it will be signed (ProveEvents), made while their text is at hand. What was
// stored before there was one has none: it is made of what is stored, which takes more than twice as long, when the leaf
// comes into the log.

// CatchUp takes into the log what was stored since it was last done: with trees, so that single
// events can be proved. Trees are made before the store is held up.
func (s *Store) CatchUp(ctx context.Context, trees bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.opts.ReadOnly {
		return store.ErrReadOnly
	}
	var made map[uint64][]byte
	upTo := uint64(math.MaxUint64)
	if trees {
		var err error
		if made, upTo, err = s.makeTrees(ctx); err != nil {
			return err
		}
	}
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	if _, err := s.lastBatch(); err != nil {
		return err
	}
	return s.catchUp(upTo, made)
}

// toLog is a leaf on its way into the log.
type toLog struct {
	batch   uint64
	leaf    []byte
	account bool // of the partition whose last batch it is
}

// catchUp takes in the leaves of batches up to one, with appendMu held: those that are made, else as partitions
// have them. A partition's leaves come in order of batches, and a batch is in one partition, so the log has
// them in that order, each once.
func (s *Store) catchUp(upTo uint64, made map[uint64][]byte) error {
	last := s.tree.LastBatch()
	var list []toLog
	s.mu.Lock()
	parts := slices.Clone(s.parts)
	s.mu.Unlock()
	for _, p := range parts {
		if p.place <= last || p.compacted != nil { // only a writer changes it; what is rewritten is in the log
			continue
		}
		err := p.view(func(tx *bbolt.Tx) error {
			bkt := tx.Bucket(layout.BucketSeal)
			if bkt == nil {
				return nil
			}
			c := bkt.Cursor()
			for k, v := c.Seek(layout.GroupKey(last + 1)); k != nil; k, v = c.Next() {
				if len(k) != 8 {
					continue // verify says so
				}
				batch := binary.BigEndian.Uint64(k)
				if batch > upTo {
					break
				}
				if leaf := made[batch]; leaf != nil {
					list = append(list, toLog{batch, leaf, false})
					continue
				}
				leaf, err := layout.DecodeSeal(k, v)
				if err != nil {
					leaf, err = s.leafAgain(tx, p, batch)
				}
				if err != nil {
					s.log.Error("the leaf of a batch is damaged, and its group cannot be read: it is not in the log", "partition", p.path, "batch", batch, "error", err)
					continue
				}
				list = append(list, toLog{batch, bytes.Clone(leaf), false})
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	accounts, later := s.accounts(upTo)
	list = append(list, accounts...)
	slices.SortStableFunc(list, func(a, b toLog) int { return cmp.Compare(a.batch, b.batch) }) // an account behind its batch
	texts := make([][]byte, 0, len(list))
	for i, x := range list {
		if i == 0 || x.batch != list[i-1].batch || x.account {
			texts = append(texts, x.leaf)
		}
	}
	if err := s.tree.AppendTexts(texts); err != nil {
		return err
	}
	s.owed = later
	return nil
}

// makeTrees returns the leaves of the batches that the log has not yet, with the roots of their events, and the last
// batch that was there. Those that have one already are as they are. A batch whose root cannot be made is left out. It works on a thread of its own
// which gives way to all others.
func (s *Store) makeTrees(ctx context.Context) (made map[uint64][]byte, upTo uint64, err error) {
	type one struct {
		p     *partition
		batch uint64
	}
	var list []one
	s.mu.Lock()
	closed := s.closed
	upTo = s.state.ID
	last := s.tree.LastBatch()
	for _, p := range s.parts {
		if p.compacted != nil {
			continue
		}
		for i := len(p.entries) - 1; i >= 0 && p.entries[i].id > last; i-- {
			list = append(list, one{p, p.entries[i].id})
		}
	}
	s.mu.Unlock()
	if closed {
		return nil, 0, store.ErrClosed
	}
	made = make(map[uint64][]byte, len(list))
	if len(list) == 0 {
		return made, upTo, nil
	}
	err = background(func() error {
		for _, x := range list {
			if err := ctx.Err(); err != nil {
				return err
			}
			var text, blob []byte
			bad := ordinary(func() (err error) { // a batch may be on its way to the partition
				text, blob, err = x.p.sealedGroup(x.batch)
				return err
			})
			if bad == nil && text != nil && blob != nil {
				text, bad = WithRoot(s.aside, text, blob)
			}
			switch {
			case bad != nil:
				s.log.Error("a batch cannot be read again: its events are not sealed one by one", "partition", x.p.path, "batch", x.batch, "error", bad)
			case text != nil:
				made[x.batch] = text
			}
		}
		return nil
	})
	return made, upTo, err
}

// WithRoot returns a batch's leaf as the log has it, with the root of the tree over the events of its group, of
// which blob are the bytes; that of a group which another engine keeps stays as it was when the group was stored. Error: store.ErrDamaged, also where the group is not the
// one that the leaf is of.
func WithRoot(c *group.Codec, leaf, blob []byte) ([]byte, error) {
	l, err := seal.ParseLeaf(leaf)
	if err != nil {
		return nil, errors.Join(store.ErrDamaged, err)
	}
	if l.Flags&seal.Elsewhere != 0 {
		return leaf, nil
	}
	if sum := c.Sum(blob, l.Pieces == 0, l.Pieces > 0); !sum.Is(l.Hash, l.Pieces) {
		return nil, fmt.Errorf("%w: the group was changed since it was stored", store.ErrDamaged)
	}
	g, err := c.Open(blob)
	if err != nil {
		return nil, err
	}
	if l.EventsRoot, err = g.EventsRoot(); err != nil {
		return nil, err
	}
	return l.Encode(), nil
}

// sealedGroup returns copies of a batch's leaf and group, so that nobody waits for what is done with them; a nil leaf where there
// is none or a damaged one, no blob where the group is not kept here, or its leaf has the root of its events.
func (p *partition) sealedGroup(batch uint64) (leaf, blob []byte, err error) {
	err = p.view(func(tx *bbolt.Tx) error {
		leaf = storedLeaf(tx, batch)
		if l, err := seal.ParseLeaf(leaf); err == nil && l.EventsRoot != (eventtree.Hash{}) {
			return nil
		}
		if b := tx.Bucket(layout.BucketGroups).Bucket(layout.GroupKey(batch)); b != nil {
			blob = bytes.Clone(b.Get(layout.KeyGroup))
		}
		return nil
	})
	return leaf, blob, err
}
