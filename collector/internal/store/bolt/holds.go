package bolt

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
)

// Holds returns how the list of holds was after its last change, as the manifest has it.
func (s *Store) Holds() store.Held {
	if s.list.file == nil {
		return store.Held{}
	}
	c := s.list.file.Content()
	return c.Held()
}

// KeepHolds has the log say how the list of holds was changed, and the manifest how it is. A process that dies
// in between says it in the log again.
func (s *Store) KeepHolds(h store.Held, holds int, why string) error {
	if s.opts.ReadOnly {
		return store.ErrReadOnly
	}
	if err := s.sealHolds(s.Holds(), h, holds, why); err != nil {
		return fmt.Errorf("say in the log that holds were changed: %w", err)
	}
	return s.list.file.Update(func(c *manifest.Content) { c.SetHeld(h) })
}

// PartHosts calls fn with the hosts that each group of a partition has events of. A group that
// cannot be read is an error.
func (s *Store) PartHosts(ctx context.Context, part store.Part, fn func(host string)) (err error) {
	sn, err := s.Snapshot(ctx) // it can be read also where it is dropped meanwhile
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sn.Close()) }()
	parts := sn.(*snapshot).parts
	i := slices.IndexFunc(parts, func(v partView) bool { return v.p.part == part })
	if i < 0 {
		return fmt.Errorf("hosts of %s: %w", part, store.ErrNoDay)
	}
	for _, e := range parts[i].entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := parts[i].p.withGroup(e.id, func(g *group.Group) error { return g.EachHost(fn) })
		if err != nil {
			return fmt.Errorf("hosts of %s: %w", part, err)
		}
	}
	return nil
}
