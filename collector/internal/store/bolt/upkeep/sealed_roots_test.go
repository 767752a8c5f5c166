package upkeep

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
)

// provedBatches stores two batches whose leaves have the roots of their events, and takes nothing into the log.
func provedBatches(t *testing.T) *sealedStore {
	t.Helper()
	s := newSealedStore(t)
	st, err := bolt.Open(bolt.Options{Dir: s.dir, LockTimeout: -1})
	must(t, err)
	st.ProveEvents(true)
	s.add(st, 0)
	s.add(st, 0)
	must(t, st.Close())
	return s
}

// ownLeaf is a batch's leaf as its partition has it.
func ownLeaf(t *testing.T, tx *bbolt.Tx, batch uint64) (text []byte, l *seal.Leaf) {
	t.Helper()
	key := layout.GroupKey(batch)
	text, err := layout.DecodeSeal(key, tx.Bucket(layout.BucketSeal).Get(key))
	must(t, err)
	l, err = seal.ParseLeaf(text)
	must(t, err)
	return bytes.Clone(text), l
}

// TestRootsWithTheirBatch: what proves single events is stored with them, and is what the log gets.
func TestRootsWithTheirBatch(t *testing.T) {
	t.Parallel()
	s := provedBatches(t)
	var texts [3][]byte
	edit(t, s.dir, 0, func(tx *bbolt.Tx) error {
		for batch := uint64(1); batch < 3; batch++ {
			text, l := ownLeaf(t, tx, batch)
			if texts[batch] = text; l.EventsRoot == [32]byte{} {
				t.Errorf("batch %d has no root of its events", batch)
			}
		}
		return nil
	})
	cp := s.open(s.dir, func(st *bolt.Store) {
		for batch := uint64(1); batch < 3; batch++ {
			must(t, st.WithGroup(t.Context(), batch, func(g *group.Group) error {
				root, err := g.EventsRoot()
				must(t, err)
				if l, err := seal.ParseLeaf(texts[batch]); err != nil || root != l.EventsRoot {
					t.Errorf("batch %d: root %x, %v, want %x", batch, l.EventsRoot, err, root)
				}
				return nil
			}))
		}
	})
	for batch := uint64(1); batch < 3; batch++ {
		if !bytes.Equal(leafIn(t, s.dir, batch).Encode(), texts[batch]) {
			t.Errorf("batch %d has another leaf in the log", batch)
		}
	}
	if rep := s.check(s.dir, cp); len(rep.Changed) > 0 || rep.Groups != 2 {
		t.Errorf("%+v", rep)
	}
}

// TestLeavesOfVersion1: leaves that have the hash of all bytes of their group at once are what the log gets, and what the store is compared
// with, beside newer ones.
func TestLeavesOfVersion1(t *testing.T) {
	t.Parallel()
	s := provedBatches(t)
	flat := func(tx *bbolt.Tx, batch uint64) error {
		return resealAs(t, tx, batch, func(l *seal.Leaf) {
			blob := tx.Bucket(layout.BucketGroups).Bucket(layout.GroupKey(batch)).Get(layout.KeyGroup)
			l.Pieces, l.Hash, l.EventsRoot = 0, sha256.Sum256(blob), [32]byte{}
		})
	}
	edit(t, s.dir, 0, func(tx *bbolt.Tx) error { return flat(tx, 1) })
	cp := s.open(s.dir, func(st *bolt.Store) { s.add(st, 0) })
	if a, b := leafIn(t, s.dir, 1), leafIn(t, s.dir, 2); a.Pieces != 0 || a.EventsRoot == [32]byte{} || b.Pieces == 0 {
		t.Errorf("%+v, %+v", a, b)
	}
	if rep := s.check(s.dir, cp); len(rep.Changed) > 0 || rep.Groups != 3 {
		t.Errorf("%+v", rep)
	}
	if rep, err := Verify(t.Context(), VerifyOptions{Dir: s.dir}); err != nil || strings.Contains(strings.Join(rep.Damage, "\n"), "written again") {
		t.Errorf("%+v, %v", rep, err)
	}
	for batch := uint64(1); batch < 3; batch++ {
		dir := s.copyOf()
		edit(t, dir, 0, func(tx *bbolt.Tx) error { return regroup(t, tx, batch, swapByte) })
		if rep := s.check(dir, cp); len(rep.Changed) != 1 || !strings.Contains(rep.Changed[0], fmt.Sprintf("batch %d: it was written again", batch)) {
			t.Errorf("batch %d: %+v", batch, rep)
		}
	}
}

// TestForgedBeforeTheLog: who has all rights between a batch's transaction and the log, and puts another root of its events
// there, or other events, is found out by the store.
func TestForgedBeforeTheLog(t *testing.T) {
	t.Parallel()
	for what, forge := range map[string]func(tx *bbolt.Tx) error{
		"batch 2: the log's root of its events is not theirs": func(tx *bbolt.Tx) error {
			_, l := ownLeaf(t, tx, 2)
			l.EventsRoot[7]++
			key := layout.GroupKey(2)
			return tx.Bucket(layout.BucketSeal).Put(key, layout.EncodeSeal(key, l.Encode()))
		},
		"batch 2: it was written again": func(tx *bbolt.Tx) error { return regroup(t, tx, 2, swapByte) },
	} {
		s := provedBatches(t)
		edit(t, s.dir, 0, forge)
		cp := s.open(s.dir, func(st *bolt.Store) { s.add(st, 0) })
		rep := s.check(s.dir, cp)
		if len(rep.Changed) != 1 || !strings.Contains(rep.Changed[0], what) {
			t.Errorf("%q, want %q", rep.Changed, what)
		}
	}
}
