package bolt

import (
	"context"
	"fmt"
	"sort"

	"github.com/auditfleet/auditfleet/collector/internal/eventtree"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
)

// EventTree reads the group of a batch again and returns the tree over its events; fn is called as
// group.EventTree says. Errors: store.ErrNoDay where the batch is not there, store.ErrDamaged.
func (s *Store) EventTree(ctx context.Context, batch uint64, fn func(ordinal int64, hash, mixed eventtree.Hash)) (t *eventtree.Tree, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	var at *partition
	for _, p := range s.parts {
		i := sort.Search(len(p.entries), func(i int) bool { return p.entries[i].id >= batch })
		if i < len(p.entries) && p.entries[i].id == batch {
			at = p
		}
	}
	closed := s.closed
	s.mu.Unlock()
	switch {
	case closed:
		return nil, store.ErrClosed
	case at == nil:
		return nil, fmt.Errorf("batch %d: %w", batch, store.ErrNoDay)
	}
	err = at.withGroup(batch, func(g *group.Group) error {
		t, err = g.EventTree(fn)
		return err
	})
	return t, err
}
