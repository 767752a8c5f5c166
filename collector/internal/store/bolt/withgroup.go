package bolt

import (
	"context"
	"fmt"
	"sort"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
)

// WithGroup opens the group of a batch and calls fn with it: neither the group nor any of its bytes may be used after fn returns.
// Errors: store.ErrNoDay where the batch is not there, store.ErrDamaged, and that of fn.
func (s *Store) WithGroup(ctx context.Context, batch uint64, fn func(g *group.Group) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	var at *partition
	for _, p := range s.parts {
		if p.compacted != nil {
			continue
		}
		i := sort.Search(len(p.entries), func(i int) bool { return p.entries[i].id >= batch })
		if i < len(p.entries) && p.entries[i].id == batch {
			at = p
		}
	}
	closed := s.closed
	s.mu.Unlock()
	switch {
	case closed:
		return store.ErrClosed
	case at == nil:
		return fmt.Errorf("batch %d: %w", batch, store.ErrNoDay)
	}
	return at.withGroup(batch, fn)
}
