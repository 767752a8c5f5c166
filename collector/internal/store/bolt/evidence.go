package bolt

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
)

// What bundles of evidence read of partitions that compaction has made.

// made returns the partitions that compaction has made and that may have events of a batch that is wanted, with their groups.
func (s *Store) made(want func(first, last uint64) bool) (list []partView, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, store.ErrClosed
	}
	for _, p := range s.parts {
		if p.compacted != nil && slices.ContainsFunc(p.entries, func(e entry) bool { return want(e.batches()) }) {
			list = append(list, p.now())
		}
	}
	return list, nil
}

// EachMade calls fn with each group that compaction has made and that may have events of batches that are wanted, from minMs to maxMs: neither the group nor any of its
// bytes may be used after fn returns. Errors: store.ErrDamaged, and that of fn.
func (s *Store) EachMade(ctx context.Context, want func(first, last uint64) bool, minMs, maxMs int64, fn func(part string, number int, g *group.Group) error) error {
	list, err := s.made(want)
	if err != nil {
		return err
	}
	for _, v := range list {
		for i := range v.entries {
			e := &v.entries[i]
			if !want(e.batches()) || e.sum.MaxMs < minMs || e.sum.MinMs > maxMs {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			err := v.p.withGroup(e.id, func(g *group.Group) error { return fn(v.p.part.String(), i+1, g) })
			if err != nil {
				return fmt.Errorf("%s: %w", v.p.part, err)
			}
		}
	}
	return nil
}

// MergeMade reads the events of some batches that compaction has written again, in the order in which they lay in the groups that they were
// stored in.
func (s *Store) MergeMade(ctx context.Context, want map[uint64]bool, fn func(m *group.Merger) error) error {
	some := func(first, last uint64) bool {
		for b := range want {
			if first <= b && b <= last {
				return true
			}
		}
		return false
	}
	list, err := s.made(some)
	if err != nil {
		return err
	}
	var rows []func() ([]byte, error)
	for _, v := range list {
		next := 0
		rows = append(rows, func() (blob []byte, err error) {
			for next < len(v.entries) && !some(v.entries[next].batches()) {
				next++
			}
			if next == len(v.entries) {
				return nil, ctx.Err()
			}
			id := v.entries[next].id
			next++
			err = v.p.view(func(tx *bbolt.Tx) error {
				b := tx.Bucket(layout.BucketGroups).Bucket(layout.GroupKey(id))
				if b == nil {
					return fmt.Errorf("%w: group %d is not there", store.ErrDamaged, id)
				}
				blob = bytes.Clone(b.Get(layout.KeyGroup)) // no partition is kept from being closed meanwhile
				return nil
			})
			return blob, err
		})
	}
	return fn(s.codec.NewMerger(func(batch uint64) bool { return want[batch] }, rows...))
}
