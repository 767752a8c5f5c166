package bolt

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// Drop deletes a sealed partition. Snapshots that have it go on reading it: the file stays
// open, without a name, until the last of them is closed.
func (s *Store) Drop(ctx context.Context, part store.Part) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.opts.ReadOnly {
		return store.ErrReadOnly
	}
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return store.ErrClosed
	}
	i := slices.IndexFunc(s.parts, func(p *partition) bool { return p.part == part })
	if i < 0 {
		return fmt.Errorf("drop %s: %w", part, store.ErrNoDay)
	}
	p := s.parts[i]
	if p == s.cur {
		return fmt.Errorf("drop %s: %w: it is the one being written", part, store.ErrInUse)
	}
	if p.refs > 0 { // open it now: without a name it cannot be opened later
		if err := p.openAgain(true); err != nil { // the searches that read it will say so, too
			s.log.Warn("a partition that is dropped cannot be read", "partition", p.path, "error", err)
		}
	}
	if err := s.list.drop(part, func() error { return os.Remove(p.path) }); err != nil {
		return fmt.Errorf("drop %s: %w", part, err)
	}
	s.forgetBroken(part)
	s.parts = slices.Delete(slices.Clone(s.parts), i, i+1)
	p.dropped = true
	if p.refs == 0 {
		if err := p.close(); err != nil {
			s.log.Warn("closing a dropped partition", "partition", p.path, "error", err)
		}
	}
	if err := fsys.OS.SyncDir(filepath.Dir(p.path)); err != nil {
		return fmt.Errorf("drop %s: %w", part, err)
	}
	return nil
}

// Rotate ends the partition being written and begins another one of its day. The new file
// has the hosts and the last batch's state from the start, so that after a restart it is
// the one being written, too.
func (s *Store) Rotate(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.opts.ReadOnly {
		return store.ErrReadOnly
	}
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	s.mu.Lock()
	closed, cur, st := s.closed, s.cur, s.state
	idle := cur == nil || len(cur.entries) == 0
	s.mu.Unlock()
	switch {
	case closed:
		return store.ErrClosed
	case idle:
		return nil
	}
	if err := s.beginPart(cur, &st); err != nil {
		return fmt.Errorf("rotate %s: %w", cur.part, err)
	}
	if err := cur.reopen(false); err != nil {
		s.log.Error("sealing a partition", "partition", cur.path, "error", err)
	}
	s.mu.Lock()
	sealed := cur.listed()
	s.mu.Unlock()
	return s.list.seal(sealed)
}

// beginPart makes the successor of cur, with its hosts and with st as its state, and makes it
// the partition being written; appendMu is held.
func (s *Store) beginPart(cur *partition, st *store.State) error {
	part := cur.part
	s.mu.Lock()
	for _, p := range s.parts {
		if p.part.Day == part.Day {
			part.N = max(part.N, p.part.N)
		}
	}
	s.mu.Unlock()
	part.N++
	var hosts []store.KV
	err := cur.view(func(tx *bbolt.Tx) error {
		hosts = copyBucket(tx.Bucket(layout.BucketHosts))
		return nil
	})
	if err != nil {
		return err
	}
	p := s.newPart(part)
	p.id, p.place = s.list.id, st.ID
	err = p.create(func(tx *bbolt.Tx) error {
		if err := putAll(tx.Bucket(layout.BucketHosts), hosts); err != nil {
			return err
		}
		return tx.Bucket(layout.BucketMarks).Put(layout.KeyState, layout.EncodeState(st))
	})
	if err != nil {
		return err
	}
	if err := s.listNew(p); err != nil {
		return err
	}
	if err := p.reopen(true); err != nil {
		return err
	}
	s.addPart(p)
	s.mu.Lock()
	s.cur = p
	s.mu.Unlock()
	return nil
}

// addPart puts p into parts, which are replaced.
func (s *Store) addPart(p *partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parts = append(slices.Clone(s.parts), p)
	sortParts(s.parts)
}
