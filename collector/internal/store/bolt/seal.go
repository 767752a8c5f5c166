package bolt

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync/atomic"

	bbolt "go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/auditfleet/auditfleet/collector/internal/eventtree"
	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// whyHandedOver is what the log says of why a partition is gone whose events another engine has.
const whyHandedOver = "another engine has its events"

// foundBytes is how much of groups is sealed as it is found when a log is begun: a few seconds'
// reading. A store with more is sealed from the next batch on.
const foundBytes = 2 << 30

// sealing is a store's part in its log. The tree is appended to under Store.appendMu, or by Open.
type sealing struct {
	tree      *seal.Tree                    // nil: read-only and there is none
	sealed    chan struct{}                 // a partition was sealed
	elsewhere atomic.Bool                   // another engine gets the groups
	proves    atomic.Bool                   // leaves get the roots of their events as batches are stored
	classes   atomic.Pointer[store.Classes] // by which batches are divided for another engine; nil: they are not
	vouch     func(*seal.Leaf) error        // signs what is written again; nil: nobody does
	owed      []*partition                  // whose account of completeness is to go into the tree; guarded by Store.appendMu
}

// Seals returns the store's log; nil for a store opened to be read that has none.
func (s *Store) Seals() *seal.Tree { return s.tree }

// Sealed returns a channel that has something once a partition was sealed or dropped.
func (s *Store) Sealed() <-chan struct{} { return s.sealing.sealed }

func (s *Store) partSealed() {
	select {
	case s.sealing.sealed <- struct{}{}:
	default:
	}
}

// ProveEvents has the leaves of the batches to come get the root of the tree over their events, or not.
func (s *Store) ProveEvents(yes bool) { s.proves.Store(yes) }

// leafOf makes the leaf of a batch that goes to p; nil for one without events. The group's hash
// is that of the tree over its pieces, which are all of its bytes: none of them is ever changed. root is that of its events, zero where it is not made.
func (s *Store) leafOf(p *partition, b *store.Batch, blob []byte, sum *group.Summary, root eventtree.Hash) ([]byte, error) {
	if blob == nil || !keepsSeal {
		return nil, nil
	}
	s.mu.Lock()
	before := s.state.LSN
	s.mu.Unlock()
	l, err := s.describe(p, b.ID, blob, sum)
	if err != nil {
		return nil, err
	}
	l.First, l.Last, l.Open = before+1, b.LSN, uint64(len(b.Open))
	l.EventsRoot = root
	return l.Encode(), nil
}

// describe makes a leaf of what a group itself says.
func (s *Store) describe(p *partition, batch uint64, blob []byte, sum *group.Summary) (*seal.Leaf, error) {
	l := &seal.Leaf{
		Kind: seal.Batch, Store: s.list.id, At: now().UnixMilli(), Part: p.part.String(), Batch: batch, Size: uint64(len(blob)),
		MinMs: sum.MinMs, MaxMs: sum.MaxMs, Events: sum.Events, Records: sum.Records,
	}
	if s.elsewhere.Load() {
		l.Flags |= seal.Elsewhere
	}
	g, err := s.codec.Open(blob)
	if err == nil {
		err = g.Counts(l.Name)
	}
	var d *store.Division
	if err == nil {
		d, err = g.Division()
	}
	if err != nil {
		return nil, fmt.Errorf("group %d: %w", batch, err)
	}
	if d != nil {
		l.Why = d.Words()
	}
	if tree, err := g.PieceTree(); err == nil {
		l.Hash, l.Pieces = tree.Root(), uint64(tree.Len())
	} else { // no program of ours puts sections so; what is found is sealed as a whole
		l.Hash = sha256.Sum256(blob)
	}
	return l, nil
}

// putLeaf writes a batch's leaf in the transaction that writes its group.
func putLeaf(tx *bbolt.Tx, batch uint64, leaf []byte) error {
	if leaf == nil {
		return nil
	}
	bkt, err := tx.CreateBucketIfNotExists(layout.BucketSeal)
	if err != nil {
		return err
	}
	key := layout.GroupKey(batch)
	return bkt.Put(key, layout.EncodeSeal(key, leaf))
}

// openLog opens the log, or begins one. What was stored when a process died comes in with the next checkpoint. Open
// calls it once the last batch is known.
func (s *Store) openLog() error {
	s.sealing.sealed = make(chan struct{}, 1)
	o := seal.Options{FS: s.opts.fs, Store: s.opts.Dir, ID: s.list.id, Write: !s.opts.ReadOnly}
	if s.opts.ReadOnly {
		t, err := seal.Open(o)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.log.Warn("the log of what was stored cannot be read: `collector verify` says more", "error", err)
		}
		if err == nil {
			s.tree = t
		}
		return nil
	}
	if err := seal.Recover(o); err != nil {
		return err
	}
	t, err := seal.Open(o)
	switch {
	case errors.Is(err, seal.ErrVersion):
		return fmt.Errorf("%w: %w", store.ErrVersion, err)
	case errors.Is(err, fs.ErrNotExist) && (s.found < layout.SealedVersion || s.state.ID == 0 && len(s.parts) == 0):
		err = s.beginLog(o, "")
	case errors.Is(err, fs.ErrNotExist):
		err = s.renewLog(o, "the log was not there")
	case errors.Is(err, seal.ErrDamaged):
		err = s.mendLog(o, err)
	case err == nil:
		s.tree = t
	}
	if err != nil {
		return err
	}
	s.handedOver = max(s.tree.LastBatch(), s.list.file.Content().Batch)
	if err = s.checkBehind(o); err == nil {
		s.oweAll()
		err = s.sealMadeFound()
	}
	if fsys.NoRoom(err) {
		s.log.Warn("no room for the log of what was stored; it is kept once there is some", "error", err)
		err = nil
	}
	return err
}

// beginLog makes a log. The groups that are there are sealed as they are found, unless there are too many.
func (s *Store) beginLog(o seal.Options, why string) error {
	var groups, size uint64
	for _, p := range s.parts {
		for i := range p.entries {
			groups, size = groups+1, size+p.entries[i].sum.Bytes
		}
	}
	first := &seal.Leaf{Kind: seal.Begun, Store: s.list.id, At: now().UnixMilli(), Batch: s.state.ID, Why: why}
	if size <= foundBytes {
		first.Groups = groups
	}
	if why == "" && s.found > 0 {
		first.Why = fmt.Sprintf("a store of version %d", s.found)
	}
	var err error
	if s.tree, err = seal.Create(o, first); err != nil {
		return err
	}
	switch {
	case groups == 0:
		return nil
	case first.Groups == 0:
		s.log.Warn("the store is sealed from the next batch on: what it has is too much to be read now", "from batch", s.state.ID+1, "groups", groups, "bytes", size)
		return nil
	}
	s.log.Info("sealing what the store has", "groups", groups, "bytes", size)
	return s.sealFound()
}

// sealFound gives each group that is there its leaf: the one that it has, or one of what it is found to be.
func (s *Store) sealFound() error {
	type one struct {
		p *partition
		e entry
	}
	var list []one
	for _, p := range s.parts {
		if p.compacted != nil {
			continue
		}
		for _, e := range p.entries {
			list = append(list, one{p, e})
		}
	}
	slices.SortStableFunc(list, func(a, b one) int { return int(int64(a.e.id) - int64(b.e.id)) })
	var leaves [][]byte
	for _, x := range list {
		leaf, err := s.foundLeaf(x.p, &x.e)
		if errors.Is(err, store.ErrDamaged) {
			s.log.Error("a group cannot be read, and is not sealed", "partition", x.p.path, "batch", x.e.id, "error", err)
			continue
		}
		if err != nil {
			return err
		}
		leaves = append(leaves, leaf)
	}
	if err := s.tree.AppendTexts(leaves); err != nil {
		return err
	}
	for _, p := range s.parts {
		if p != s.cur {
			s.owe(p)
		}
	}
	return nil
}

func (s *Store) foundLeaf(p *partition, e *entry) (leaf []byte, err error) {
	err = p.view(func(tx *bbolt.Tx) error {
		if leaf = storedLeaf(tx, e.id); leaf == nil {
			leaf, err = s.leafAgain(tx, p, e.id)
		}
		return err
	})
	return leaf, err
}

// leafAgain makes a leaf of a group as it is found.
func (s *Store) leafAgain(tx *bbolt.Tx, p *partition, batch uint64) ([]byte, error) {
	key := layout.GroupKey(batch)
	b := tx.Bucket(layout.BucketGroups).Bucket(key)
	if b == nil {
		return nil, fmt.Errorf("%w: group %d is not there", store.ErrDamaged, batch)
	}
	sum, err := group.DecodeSummary(tx.Bucket(layout.BucketCatalog).Get(key))
	if err != nil {
		return nil, err
	}
	l, err := s.describe(p, batch, b.Get(layout.KeyGroup), &sum)
	if err != nil {
		return nil, err
	}
	l.Flags |= seal.Found
	return l.Encode(), nil
}

// storedLeaf returns a copy of the leaf that a partition has of a batch; nil where it has none, or a
// damaged one.
func storedLeaf(tx *bbolt.Tx, batch uint64) []byte {
	bkt := tx.Bucket(layout.BucketSeal)
	if bkt == nil {
		return nil
	}
	key := layout.GroupKey(batch)
	leaf, err := layout.DecodeSeal(key, bkt.Get(key))
	if err != nil || len(leaf) == 0 {
		return nil
	}
	return bytes.Clone(leaf)
}

// mendLog makes the log anew from its damaged files and the partitions' leaves.
func (s *Store) mendLog(o seal.Options, cause error) error {
	t, lost, err := seal.Mend(o, s.leafAnywhere)
	if err != nil {
		s.log.Error("the log of what was stored is damaged, and cannot be put right", "error", errors.Join(cause, err))
		return s.renewLog(o, fmt.Sprintf("the log could not be read: %v", cause))
	}
	s.tree = t
	s.log.Error("the log of what was stored was damaged; it was put together again", "error", cause, "leaves", t.Size(), "leaves known by their hash only", lost)
	return nil
}

// renewLog begins a log in the place of one that is gone. Nothing is signed until that is accepted.
func (s *Store) renewLog(o seal.Options, why string) error {
	s.log.Error("the log of what was stored is begun anew", "why", why)
	if err := s.beginLog(o, why); err != nil {
		return err
	}
	return seal.Stop(o.FS, o.Store, why+": it was begun anew with what the store has")
}

// leafAnywhere returns the leaf that a partition has of a batch: as it is, or with the root of its events, by which of both has
// that hash; nil where none has.
func (s *Store) leafAnywhere(batch uint64, hash *tlog.Hash) (leaf []byte) {
	for _, p := range s.parts {
		if p.place < batch || leaf != nil {
			continue
		}
		if p.compacted != nil { // it has the leaves of what it was made of, and not their groups
			_ = p.view(func(tx *bbolt.Tx) error { leaf = storedLeaf(tx, batch); return nil }) // what cannot be read is not there
			continue
		}
		text, blob, err := p.sealedGroup(batch)
		if err != nil {
			return nil
		}
		if leaf = text; leaf == nil || hash != nil && tlog.RecordHash(leaf) == *hash {
			continue
		}
		if with, err := WithRoot(s.codec, leaf, blob); err == nil {
			leaf = with
		}
	}
	return leaf
}

// checkBehind says in the log when the store is behind it: batches will have numbers that the log has
// leaves of.
func (s *Store) checkBehind(o seal.Options) error {
	last := s.tree.LastBatch()
	if s.state.ID >= last {
		return nil
	}
	why := fmt.Sprintf("the store's last batch is %d, and the log had %d: an older copy of its files was put back, or its last partition was lost", s.state.ID, last)
	s.log.Error("the store is behind its log", "last batch", s.state.ID, "the log's", last)
	err := s.tree.Append(&seal.Leaf{Kind: seal.Rewound, Store: s.list.id, At: now().UnixMilli(), First: s.state.ID, Batch: last, Why: why})
	if err != nil {
		return err
	}
	return seal.Stop(o.FS, o.Store, why)
}

// sealDrop writes into the log that a partition is about to be dropped, once all of its batches are in
// there. appendMu is held, mu is not. A process that dies before the file is deleted leaves a partition
// that the log says was dropped: it will be, again.
func (s *Store) sealDrop(p *partition, why string) error {
	if err := s.catchUp(p.place, nil); err != nil {
		return fmt.Errorf("keep its leaves in the log: %w", err)
	}
	was := p.listed()
	l := &seal.Leaf{Kind: seal.Dropped, Store: s.list.id, At: now().UnixMilli(), Part: was.Name, First: was.First, Last: was.Batch, Groups: uint64(len(p.entries)),
		Events: was.Events, MinMs: was.MinMs, MaxMs: was.MaxMs, Why: why}
	if err := s.tree.Append(l); err != nil {
		return fmt.Errorf("say so in the log: %w", err)
	}
	s.partSealed()
	return nil
}

func (s *Store) closeLog() error {
	if s.tree == nil {
		return nil
	}
	return s.tree.Close()
}
