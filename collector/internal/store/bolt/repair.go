package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/raw"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// repair takes a damaged partition out of the way. Its file is set aside, never deleted,
// and what can be read of it is written to a new file in its place, so that answers lack
// no more than they must and the day can go on being written. It returns true when the
// partition is back, with what could be read.
//
// state is the writer's place that belongs to the partition as far as is known, nil when only the file knows
// it. When the file does not know it either, and its batches are the last ones, it must not
// be put back: the writer begins again at the place of an earlier partition, so what the
// journal still has is stored again, and would be there twice. Then the file is only set
// aside, and repair returns false. s.mu is not held.
func (s *Store) repair(p *partition, cause error, state *store.State) (back bool, err error) {
	if s.opts.ReadOnly {
		return false, s.setAside(p, cause)
	}
	tmp := p.path + ".tmp"
	of, lost, whole, err := s.rebuild(p, state, tmp)
	if err != nil {
		_ = os.Remove(tmp) // it holds nothing that its source does not
		s.log.Warn("what is readable of a damaged partition cannot be put back", "partition", p.path, "error", err)
		return false, s.setAside(p, cause)
	}
	aside, err := s.moveAway(p)
	if err != nil {
		return false, errors.Join(cause, err)
	}
	s.mu.Lock()
	s.forgetUnreadable(p)
	err = errors.Join(os.Rename(tmp, p.path), fsys.OS.SyncDir(filepath.Dir(p.path)), p.open())
	s.mu.Unlock()
	if err != nil {
		return false, errors.Join(cause, err)
	}
	if whole {
		s.list.remake(p.part)
	} else {
		of.File = filepath.Base(aside)
		s.recordLoss(p, aside, fmt.Errorf("%w; at least %d events cannot be read", cause, lost), of)
	}
	s.log.Error("a partition was damaged; what can be read of it was put back", "partition", p.path, "error", cause, "events lost", lost, "set aside as", filepath.Base(aside))
	if !whole {
		s.mu.Lock()
		s.broken = append(s.broken, &lostError{fmt.Errorf("%s: %w; at least %d events cannot be read; set aside as %s", p.path, cause, lost, filepath.Base(aside)), of, ""})
		s.mu.Unlock()
	}
	return true, nil
}

// moveAway closes a partition's file and renames it to that of a damaged one, which it
// returns.
func (s *Store) moveAway(p *partition) (aside string, err error) {
	p.mu.Lock()
	// A panic on damaged bytes in a write transaction leaves bbolt with its locks
	// held, and closing it would wait for them for ever. So what was open to write
	// stays open, under its new name, for as long as the process lives.
	if p.db != nil && !p.canWrite() {
		if err := p.guard(p.db.Close); err != nil {
			s.log.Warn("closing a damaged partition", "partition", p.path, "error", err)
		}
	}
	p.opened.remove(p)
	p.db = nil
	p.write.Store(false)
	p.mu.Unlock()
	aside = fmt.Sprintf("%s.corrupt-%d", p.path, time.Now().UnixNano())
	return aside, os.Rename(p.path, aside)
}

// rebuild writes what is readable of a partition to a new file. It returns what is known of the
// events that are not, how many they are, and whether nothing else is missing. A group that another
// partition has, too, is left out.
func (s *Store) rebuild(p *partition, state *store.State, to string) (of manifest.Loss, lost uint64, whole bool, err error) {
	if err := os.Remove(to); err != nil && !errors.Is(err, os.ErrNotExist) {
		return of, 0, false, err
	}
	tree, err := raw.Open(p.path, p.part, false)
	if tree == nil {
		return of, 0, false, err
	}
	defer func() { err = errors.Join(err, tree.Close()) }()
	if err != nil {
		return of, 0, false, err
	}
	switch {
	case tree.Compacted == nil && (p.compacted != nil || s.list.compacted(p.part)):
		return of, 0, false, fmt.Errorf("%w: compaction made it, and its mark is lost: its groups are no batches", store.ErrDamaged)
	case tree.ID == (seglog.ID{}):
		tree.ID = s.list.id
	case tree.ID != s.list.id:
		return of, 0, false, fmt.Errorf("%w: foreign: it is of the store %s, this is %s", store.ErrDamaged, tree.ID, s.list.id)
	}
	last := uint64(0) // the last batch that p has a group of
	kept := tree.Groups[:0]
	beside := s.groupsBeside(p)
	if tree.Compacted != nil { // its groups have numbers of their own
		beside, last = nil, tree.Compacted.Last
	}
	copies := 0
	for _, g := range tree.Groups {
		if tree.Compacted == nil {
			last = max(last, g.ID)
		}
		if beside[g.ID] { // p is a copy of another partition, or was put together from one
			copies++
			continue
		}
		if !g.Listed && g.At.Size > 0 {
			tree.Describe(&g, s.codec)
		}
		if g.At.Size == 0 || !g.Listed {
			lost += g.Sum.Events
			addExtent(&of, &g.Sum)
			continue
		}
		kept = append(kept, g)
	}
	tree.Groups = kept
	if len(kept) == 0 && copies > 0 {
		return of, lost, false, fmt.Errorf("%w: all that is readable is in other partitions: it is a copy", store.ErrDamaged)
	}
	if len(kept) == 0 {
		return of, lost, false, fmt.Errorf("%w: nothing is readable", store.ErrDamaged)
	}
	s.mu.Lock()
	known := s.state.ID
	s.mu.Unlock()
	switch st, derr := layout.DecodeState(tree.State); {
	case tree.Import != "": // it has no writer's place
	case state != nil && derr == nil && st.ID > state.ID && slices.ContainsFunc(kept, func(g raw.Group) bool { return g.ID == st.ID }):
		// It has a batch whose commit got an error all the same: the next try is to find it. See put.
	case state != nil:
		tree.State = layout.EncodeState(state)
	case (derr != nil || st.ID < last) && last > known:
		return of, lost, false, errors.Join(fmt.Errorf("%w: the writer's place in the journal is lost", store.ErrDamaged), derr)
	case derr != nil:
		tree.State = nil // that of a later partition counts
	}
	hosts := tree.Hosts[:0]
	for _, kv := range tree.Hosts {
		if _, err := layout.DecodeHost(kv.Key, kv.Value); err == nil {
			hosts = append(hosts, kv)
		}
	}
	tree.Hosts = hosts
	if tree.Incomplete { // there may be more, of whatever times
		of = manifest.Loss{Records: of.Records}
	}
	whole = lost == 0 && !tree.Incomplete
	tree.Lacks = tree.Lacks || !whole
	return of, lost, whole, tree.CopyTo(context.Background(), to, nil)
}

// addExtent adds a group that cannot be read to what is lost.
func addExtent(of *manifest.Loss, g *group.Summary) {
	if of.MinMs == 0 || g.FirstMs != 0 && g.FirstMs < of.MinMs {
		of.MinMs = g.FirstMs
	}
	of.MaxMs, of.Records, of.Hosts = max(of.MaxMs, g.MaxMs), of.Records+g.Records, max(of.Hosts, g.Hosts)
}

// groupsBeside returns the batches whose groups the other partitions have. A batch is in
// one partition only, so a group of one of them must not be put back: it would be there
// twice.
func (s *Store) groupsBeside(p *partition) map[uint64]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := map[uint64]bool{}
	for _, x := range s.parts {
		if x.compacted != nil { // its groups are of many batches
			continue
		}
		for i := range x.entries {
			if x != p {
				ids[x.entries[i].id] = true
			}
		}
	}
	return ids
}

// HasGroup reports whether the store has a batch's group with the very same bytes as b:
// then whatever can be read of b can be read in the store already.
func (s *Store) HasGroup(id uint64, b []byte) (same bool, err error) {
	s.mu.Lock()
	var p *partition
	for _, x := range s.parts {
		for i := range x.entries {
			if x.compacted == nil && x.entries[i].id == id {
				p = x
			}
		}
	}
	s.mu.Unlock()
	if p == nil {
		return false, nil
	}
	err = p.view(func(tx *bbolt.Tx) error {
		if g := tx.Bucket(layout.BucketGroups).Bucket(layout.GroupKey(id)); g != nil {
			same = bytes.Equal(g.Get(layout.KeyGroup), b)
		}
		return nil
	})
	return same, err
}
