package bolt

import (
	"context"
	"fmt"
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
)

// Holds returns the number of the last change of the list of holds, as the manifest has it.
func (s *Store) Holds() uint64 {
	if s.list.file == nil {
		return 0
	}
	c := s.list.file.Content()
	return c.Holds
}

// KeepHolds has the manifest keep the number of a change of the list of holds.
func (s *Store) KeepHolds(generation uint64) error {
	if s.opts.ReadOnly {
		return store.ErrReadOnly
	}
	return s.list.file.Update(func(c *manifest.Content) { c.Holds = generation })
}

// PartHosts calls fn with the hosts that each group of a partition has events of. A group that
// cannot be read is an error.
func (s *Store) PartHosts(ctx context.Context, part store.Part, fn func(host string)) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return store.ErrClosed
	}
	i := slices.IndexFunc(s.parts, func(p *partition) bool { return p.part == part })
	if i < 0 {
		s.mu.Unlock()
		return fmt.Errorf("hosts of %s: %w", part, store.ErrNoDay)
	}
	p := s.parts[i]
	entries := p.entries // replaced, never changed
	s.mu.Unlock()
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := p.withGroup(e.id, func(g *group.Group) error { return g.EachHost(fn) })
		if err != nil {
			return fmt.Errorf("hosts of %s: %w", part, err)
		}
	}
	return nil
}
