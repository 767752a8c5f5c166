package bolt

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/rewrite"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
)

// What compaction writes into the log. Before it, the log vouches for the bytes of each group; from then on for those of the groups that were
// made of them. So nothing that is not as it was stored may go into these: each source is compared with the log first.

// ErrNotAsSealed says that a partition is not what the log has of it: it was changed, and is left as it is, so that it can be told.
var ErrNotAsSealed = errors.New("it is not what the log of what was stored has of it, and is not written again (collector verify)")

// VouchWith has fn sign the leaves of what is written again: seal.Log's Vouch. It is called before anything is. Without it nothing is written again whose log
// was ever signed.
func (s *Store) VouchWith(fn func(*seal.Leaf) error) { s.vouch = fn }

// mayRewrite returns why nothing may be written again now.
func (s *Store) mayRewrite(l *seal.Leaf) error {
	if s.vouch != nil {
		return s.vouch(l)
	}
	list, err := seal.ReadCheckpoints(s.opts.Dir)
	if err == nil && len(list) > 0 {
		err = fmt.Errorf("%w: its log is signed, and there is %w", seal.ErrNotVouched, seal.ErrNoKey)
	}
	return err
}

// asSealed returns nil when each group of some partitions is what the log has of it. Those from before the log pass. It hashes them in the background, at
// a pace. Errors: ErrNotAsSealed, seal.ErrNotVouched.
func (s *Store) asSealed(ctx context.Context, parts []*partition, pace *rewrite.Pace) error {
	if s.tree == nil || !keepsSeal {
		return nil
	}
	if err := s.mayRewrite(&seal.Leaf{Kind: seal.Rewritten}); err != nil {
		return err
	}
	if err := s.CatchUp(ctx, s.proves.Load()); err != nil {
		return fmt.Errorf("take what is stored into the log: %w", err)
	}
	size := s.tree.Size()
	root, err := s.tree.Root(size)
	if err != nil {
		return err
	}
	entries, want := make([][]entry, len(parts)), make([][]*sealedSum, len(parts))
	for i, p := range parts { // here, since who appends to the log waits for who reads it
		s.mu.Lock()
		entries[i] = p.entries
		s.mu.Unlock()
		if want[i], err = s.sealedSums(p, entries[i], size, root); err != nil {
			return fmt.Errorf("%s: %w", p.part, err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return background(func() error {
		for i, p := range parts {
			if err := s.compareSums(ctx, p, entries[i], want[i], pace); err != nil {
				return fmt.Errorf("%s: %w", p.part, err)
			}
		}
		return nil
	})
}

// compareSums hashes a partition's groups, and compares them with what the log has. It reads the file beside the store: a drop, and whatever else opens or closes
// that, does not wait for it.
func (s *Store) compareSums(ctx context.Context, p *partition, entries []entry, want []*sealedSum, pace *rewrite.Pace) error {
	return guard(p.path, func() (err error) {
		src, err := rewrite.Open(p.path, p.part)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, src.Close()) }()
		if !sameGroups(src, entries) {
			return errChanged
		}
		for i := range src.Groups {
			g, w := &src.Groups[i], want[i]
			if err := pace.Done(ctx, g.Sum.Bytes); err != nil {
				return err
			}
			if w == nil {
				continue
			}
			if sum := s.aside.Sum(g.Bytes, w.pieces == 0, w.pieces > 0); !sum.Is(w.hash, w.pieces) {
				return fmt.Errorf("group %d: %w", g.ID, ErrNotAsSealed)
			}
		}
		return nil
	})
}

// sealedSum is what the log has of a group's bytes.
type sealedSum struct {
	hash   [32]byte
	pieces uint64
}

// sealedSums returns what the log of size leaves has of each of a partition's groups; nil of one from before the log.
func (s *Store) sealedSums(p *partition, entries []entry, size int64, root tlog.Hash) ([]*sealedSum, error) {
	out := make([]*sealedSum, len(entries))
	if p.compacted != nil {
		index, text, l, err := s.tree.MadeBy(p.part.String())
		if errors.Is(err, seal.ErrNoLeaf) {
			return nil, fmt.Errorf("the log has no word of how it was made: %w", ErrNotAsSealed)
		}
		if err == nil {
			err = s.inTree(index, text, size, root)
		}
		if err != nil {
			return nil, err
		}
		m := &l.Made[slices.IndexFunc(l.Made, func(m seal.Made) bool { return m.Part == p.part.String() })]
		if len(m.Groups) != len(entries) {
			return nil, fmt.Errorf("%d groups are there, and %d were made: %w", len(entries), len(m.Groups), ErrNotAsSealed)
		}
		for i := range m.Groups {
			out[i] = &sealedSum{m.Groups[i].Hash, m.Groups[i].Pieces}
		}
		return out, nil
	}
	begun := uint64(0) // batches up to it may be there without a leaf
	if text, err := s.tree.Text(0); err == nil {
		if l, err := seal.ParseLeaf(text); err == nil && l.Kind == seal.Begun {
			begun = l.Batch
		}
	}
	for i := range entries {
		batch := entries[i].id
		index, text, err := s.tree.Find(batch)
		switch {
		case errors.Is(err, seal.ErrNoLeaf) && batch <= begun:
			continue
		case errors.Is(err, seal.ErrNoLeaf):
			return nil, fmt.Errorf("batch %d: the log has no leaf of it: %w", batch, ErrNotAsSealed)
		case err != nil:
			return nil, err
		}
		if err := s.inTree(index, text, size, root); err != nil {
			return nil, err
		}
		l, err := seal.ParseLeaf(text)
		if err != nil || l.Part != p.part.String() {
			return nil, fmt.Errorf("batch %d: its leaf is of another partition: %w", batch, errors.Join(ErrNotAsSealed, err))
		}
		out[i] = &sealedSum{l.Hash, l.Pieces}
	}
	return out, nil
}

// inTree checks that a leaf's text is what the root of the log was made of: whoever can write the files can write texts and hashes, too.
func (s *Store) inTree(index int64, text []byte, size int64, root tlog.Hash) error {
	proof, err := s.tree.Inclusion(index, size)
	if err == nil {
		err = tlog.CheckRecord(proof, size, root, index, tlog.RecordHash(text))
	}
	if err != nil {
		return fmt.Errorf("leaf %d of the log: %w: %w", index, ErrNotAsSealed, err)
	}
	return nil
}

// describeMade returns what the log is to say of a partition that was made, whose file is open. It hashes all of its groups, at a pace.
func (s *Store) describeMade(ctx context.Context, p *partition, pace *rewrite.Pace) (seal.Made, error) {
	out := seal.Made{Part: p.part.String()}
	hosts := map[string]seal.HostCount{}
	for i := range p.entries {
		e := &p.entries[i]
		if err := pace.Done(ctx, e.sum.Bytes); err != nil {
			return out, err
		}
		g := seal.MadeGroup{MinMs: e.sum.MinMs, MaxMs: e.sum.MaxMs, Events: e.sum.Events, Records: e.sum.Records}
		g.First, g.Last = e.batches()
		err := p.withGroup(e.id, func(x *group.Group) error {
			tree, err := x.PieceTree()
			if err != nil {
				return err
			}
			g.Hash, g.Pieces, g.Size = tree.Root(), uint64(tree.Len()), e.sum.Bytes
			return x.Counts(func(name string, events, records uint64) {
				h := hosts[name]
				hosts[name] = seal.HostCount{Name: name, Events: h.Events + events, Records: h.Records + records}
			})
		})
		if err != nil {
			return out, fmt.Errorf("%s: %w", p.part, err)
		}
		out.Groups = append(out.Groups, g)
	}
	for _, h := range hosts {
		out.Hosts = append(out.Hosts, h)
	}
	slices.SortFunc(out.Hosts, func(a, b seal.HostCount) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return out, nil
}

// describeFiles is describeMade of files that do not have their names yet, in the background.
func (s *Store) describeFiles(ctx context.Context, parts []store.Part, pace *rewrite.Pace) (made []seal.Made, err error) {
	if s.tree == nil || !keepsSeal {
		return nil, nil
	}
	err = background(func() error {
		for _, part := range parts {
			p := s.newPart(part)
			p.path, p.codec, p.opened = s.tmpPath(part), s.aside, &opened{most: 1} // it is none of the store's, and closes none of these
			if err := p.open(); err != nil {
				return err
			}
			m, err := s.describeMade(ctx, p, pace)
			if err = errors.Join(err, p.close()); err != nil {
				return err
			}
			made = append(made, m)
		}
		return nil
	})
	return made, err
}

// sealRewritten has the log say that partitions are about to be replaced by those that were made of them, once all of their batches are in there. appendMu is held, mu
// is not. A process that dies before they are leaves a leaf of what did not happen: the sources count, as long as they are there.
func (s *Store) sealRewritten(sources []*partition, made []seal.Made) error {
	if s.tree == nil || !keepsSeal {
		return nil
	}
	l := &seal.Leaf{Kind: seal.Rewritten, Store: s.list.id, At: now().UnixMilli(), Made: made}
	for _, p := range sources {
		if err := s.catchUp(p.place, nil); err != nil {
			return fmt.Errorf("keep its leaves in the log: %w", err)
		}
		was := p.listed()
		l.Sources = append(l.Sources, seal.Source{Part: was.Name, First: was.First, Last: p.lastEntry(), Groups: uint64(len(p.entries)), Events: was.Events, Records: was.Records})
	}
	sumRewritten(l)
	if err := s.mayRewrite(l); err != nil {
		return err
	}
	account, err := s.accountOfMade(sources, made[0].Part)
	if err != nil {
		return fmt.Errorf("what they have of hosts' completeness: %w", err)
	}
	if err := s.tree.Append(l, account); err != nil {
		return fmt.Errorf("say so in the log: %w", err)
	}
	s.partSealed()
	return nil
}

// sumRewritten fills in what a leaf has of all of its partitions.
func sumRewritten(l *seal.Leaf) {
	some := false
	for i := range l.Made {
		m := &l.Made[i]
		events, records := m.Counts()
		l.Events, l.Records = l.Events+events, l.Records+records
		if len(m.Groups) == 0 {
			continue
		}
		first, last, minMs, maxMs := m.Span()
		if !some {
			l.First, l.Last, l.MinMs, l.MaxMs, some = first, last, minMs, maxMs, true
		}
		l.First, l.Last, l.MinMs, l.MaxMs = min(l.First, first), max(l.Last, last), min(l.MinMs, minMs), max(l.MaxMs, maxMs)
	}
}

// accountOfMade makes the leaf of what the first of the partitions that were made has of hosts' completeness: it does not have its name yet.
func (s *Store) accountOfMade(sources []*partition, name string) (*seal.Leaf, error) {
	part, err := store.ParsePart(name)
	if err != nil {
		return nil, err
	}
	p := s.newPart(part)
	p.path = s.tmpPath(part)
	if err := p.open(); err != nil {
		return nil, err
	}
	sum, err := p.rowSum()
	if err = errors.Join(err, p.close()); err != nil {
		return nil, err
	}
	l := &seal.Leaf{Kind: seal.Account, Store: s.list.id, At: (int64(part.Day) + 1) * ledger.Day, Part: name, Groups: sum.Rows, Size: sum.Bytes, Hash: sum.Sum()}
	for _, src := range sources {
		l.Batch = max(l.Batch, src.lastEntry())
	}
	return l, nil
}

// sealMadeFound gives partitions that compaction made, and of which the log has no word, leaves of what they are found to be: the log was begun anew, or
// has lost its end. Open alone calls it.
func (s *Store) sealMadeFound() error {
	var list []*partition
	size := uint64(0)
	for _, p := range s.parts {
		if p.compacted == nil {
			continue
		}
		if _, _, _, err := s.tree.MadeBy(p.part.String()); !errors.Is(err, seal.ErrNoLeaf) {
			continue // what cannot be read is said elsewhere
		}
		list = append(list, p)
		for i := range p.entries {
			size += p.entries[i].sum.Bytes
		}
	}
	if size > foundBytes {
		s.log.Warn("the log has no word of how partitions were made, and they are too much to be read now: they are not sealed", "partitions", len(list), "bytes", size)
		return nil
	}
	for _, p := range list {
		m, err := s.describeMade(context.Background(), p, nil)
		if errors.Is(err, store.ErrDamaged) {
			s.log.Error("a partition cannot be read as a whole, and is not sealed", "partition", p.path, "error", err)
			continue
		}
		if err != nil {
			return err
		}
		l := &seal.Leaf{Kind: seal.Rewritten, Store: s.list.id, At: now().UnixMilli(), Flags: seal.Found, Made: []seal.Made{m}}
		for _, src := range p.compacted.Sources {
			l.Sources = append(l.Sources, seal.Source{Part: src.Part.String(), First: src.First, Last: src.Last})
		}
		sumRewritten(l)
		if err := s.tree.Append(l); err != nil {
			return err
		}
		s.log.Warn("the log has no word of how a partition was made: it is sealed as it is found", "partition", p.path)
	}
	return nil
}
