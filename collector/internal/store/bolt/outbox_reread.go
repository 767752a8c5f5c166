package bolt

import (
	"context"
	"errors"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
)

// Evidence and verify read batches again: from the outbox while they wait there, as they were sealed, and else as the engine has them now. The leaf of a batch has
// the root of the tree over its events, made as it was appended: so whatever has happened to them since, in somebody else's hands, is seen.

// WithGroup opens the group of a batch that waits in the outbox; see Store.WithGroup. One that the engine takes meanwhile is not there.
func (o *Outbox) WithGroup(ctx context.Context, batch uint64, fn func(g *group.Group) error) error {
	err := o.local.WithGroup(ctx, batch, fn)
	if err != nil && !errors.Is(err, store.ErrNoDay) && o.has(batch) {
		err = errors.Join(store.ErrNoDay, err)
	}
	return err
}

// rereader is the engine, where it can read batches again.
func (o *Outbox) rereader() (store.Rereader, error) {
	return store.Able[store.Rereader](o.engine, "read batches again as they are stored now")
}

// Reread implements store.Rereader of what the engine has taken.
func (o *Outbox) Reread(ctx context.Context, list []*store.Reread, columns bool) error {
	e, err := o.rereader()
	if err != nil {
		return err
	}
	return e.Reread(ctx, list, columns)
}

// Counts implements store.Rereader. What waits is counted, too.
func (o *Outbox) Counts(ctx context.Context, from, to store.Day) (map[uint64][]store.Counted, error) {
	e, err := o.rereader()
	if err != nil {
		return nil, err
	}
	waits := o.local.entriesAfter(0) // before the engine is asked: what is handed over in between is in both
	all, err := e.Counts(ctx, from, to)
	if err != nil {
		return nil, err
	}
	for _, w := range waits {
		if w.day >= from && w.day <= to {
			all[w.id] = o.local.waitingClasses(w, all[w.id])
		}
	}
	return all, nil
}

// waitingClasses returns what there is of a batch that waits, or is handed over just now: all of it.
func (s *Store) waitingClasses(w waitingGroup, there []store.Counted) []store.Counted {
	list := []store.Divided{{Events: w.sum.Events}}
	if err := s.WithGroup(context.Background(), w.id, func(g *group.Group) error {
		d, err := g.Division()
		if d != nil {
			list = d.Classes
		}
		return err
	}); err != nil && len(there) > 0 { // it is gone meanwhile: the engine has it
		return there
	}
	out := make([]store.Counted, len(list))
	for i := range list {
		out[i] = store.Counted{First: list[i].First, Last: list[i].First + max(list[i].Events, 1) - 1, Events: max(list[i].Events, list[i].CountIn(there))}
	}
	return out
}

// Drops implements store.Dropping; of an engine that does not say it, there are none.
func (o *Outbox) Drops(ctx context.Context) ([]store.DroppedPart, error) {
	e, err := store.Able[store.Dropping](o.engine, "say which parts are dropped")
	if errors.Is(err, store.ErrUnable) {
		return nil, nil
	}
	waits := map[store.Day]bool{} // before the engine is asked: what is handed over in between is in both
	for _, w := range o.local.entriesAfter(0) {
		waits[w.day] = true
	}
	list, err := e.Drops(ctx)
	for _, w := range o.local.entriesAfter(0) { // and what came in between
		waits[w.day] = true
	}
	for i := range list {
		d := &list[i]
		d.DayGone, d.ClassGone = d.DayGone && !waits[d.Part.Day], d.ClassGone && !waits[d.Part.Day] // what waits of the day begins another part
	}
	return list, err
}

var (
	_ store.Rereader = (*Outbox)(nil)
	_ store.Dropping = (*Outbox)(nil)
)
