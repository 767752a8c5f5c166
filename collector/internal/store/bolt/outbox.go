package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// Outbox is a place whose events another engine keeps. The embedded store is its
// local half: what is there of groups is what the engine may not have yet.
//
// Each batch goes three steps: the embedded store appends it, so that its events,
// sealed as a group, are durable in the same transaction as the writer's state; the engine
// appends the group; the group is deleted. Why that stores every event once, wherever
// the collector dies:
//
//   - before the first step has committed, the state is that of the batch before, and the
//     engine has seen nothing: the writer makes its batches anew from the journal, with
//     other events in them perhaps.
//   - after it, the state counts the batch's records as stored, and its group is there. It never
//     changes, so whatever the engine took of it before, it is given the same again
//     under the same ID, and knows it by that.
//   - the group is deleted only after the engine has said that it is durable there.
//
// No batch is begun before the one before has gone all three steps: the outbox holds one
// group at most.
type Outbox struct {
	local  *Store
	engine store.Engine

	mu sync.Mutex // one Append or delivery at a time; taken before the locks of local
	// owed says that a batch of an earlier process may be in the outbox: who searches would not
	// find it, and the head does not have it in memory as those that it appends itself.
	owed atomic.Bool
}

var _ store.Store = (*Outbox)(nil)

// NewOutbox has engine keep the events of local's batches; it closes both. What an earlier
// process left in the outbox is delivered now or, when the engine does not take it, before
// anything else is asked of it.
func NewOutbox(ctx context.Context, local *Store, engine store.Engine) *Outbox {
	o := &Outbox{local: local, engine: engine}
	o.owed.Store(true)
	if err := o.settle(ctx); err != nil {
		local.log.Warn("the last batch is not with the engine yet: it stays in the outbox, and searches fail until it is", "error", err)
	}
	return o
}

// settle delivers what an earlier process left.
func (o *Outbox) settle(ctx context.Context) error {
	if !o.owed.Load() {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.deliver(ctx)
}

// Append stores a batch.
func (o *Outbox) Append(ctx context.Context, b *store.Batch) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.deliver(ctx); err != nil {
		return err
	}
	if err := o.local.Append(ctx, b); err != nil {
		return err
	}
	return o.deliver(ctx)
}

// deliver takes what is in the outbox the second and third step; o.mu is held.
func (o *Outbox) deliver(ctx context.Context) error {
	for _, g := range o.local.sealed() {
		if o.local.opts.ReadOnly {
			return fmt.Errorf("batch %d is not with the engine yet: %w", g.id, store.ErrReadOnly)
		}
		b, err := g.load()
		if err == nil {
			err = o.engine.Append(ctx, b)
		}
		if err == nil {
			err = o.local.discard(g)
		}
		if err != nil {
			return fmt.Errorf("deliver batch %d: %w", g.id, err)
		}
	}
	o.owed.Store(false)
	return o.local.dropEmpty(ctx)
}

// Snapshot is the engine's.
func (o *Outbox) Snapshot(ctx context.Context) (store.Snapshot, error) {
	if _, err := o.local.last(); err != nil {
		return nil, err
	}
	if err := o.settle(ctx); err != nil {
		return nil, err
	}
	return o.engine.Snapshot(ctx)
}

// ID is the place's.
func (o *Outbox) ID() seglog.ID { return o.local.ID() }

// State is that of the last batch, which is with the engine or in the outbox.
func (o *Outbox) State(ctx context.Context) (*store.State, error) { return o.local.State(ctx) }

// Journal is what the place knows of the journal's segments.
func (o *Outbox) Journal() seglog.Known { return o.local.Journal() }

// KeepJournal makes it durable.
func (o *Outbox) KeepJournal(k seglog.Known, lost []string) error {
	return o.local.KeepJournal(k, lost)
}

// Stats are the engine's.
func (o *Outbox) Stats(ctx context.Context) (store.Stats, error) { return o.engine.Stats(ctx) }

// Drop has the engine forget a part.
func (o *Outbox) Drop(ctx context.Context, part store.Part) error { return o.engine.Drop(ctx, part) }

// Rotate is the engine's.
func (o *Outbox) Rotate(ctx context.Context) error { return o.engine.Rotate(ctx) }

// Missing is what either half lacks.
func (o *Outbox) Missing() []error { return append(o.local.Missing(), o.engine.Missing()...) }

// MayOpen is for both halves.
func (o *Outbox) MayOpen() int { return o.local.MayOpen() + o.engine.MayOpen() }

// Close closes both halves.
func (o *Outbox) Close() error { return errors.Join(o.local.Close(), o.engine.Close()) }

// sealedGroup is a group in the outbox.
type sealedGroup struct {
	p  *partition
	id uint64
}

// sealed are the groups that are there, by ID.
func (s *Store) sealed() (list []sealedGroup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.parts {
		for _, e := range p.entries {
			list = append(list, sealedGroup{p, e.id})
		}
	}
	slices.SortFunc(list, func(a, b sealedGroup) int { return int(int64(a.id) - int64(b.id)) })
	return list
}

// load reads the group. Its bytes are copied: an engine may take its time.
func (g sealedGroup) load() (*store.Sealed, error) {
	var b []byte
	err := g.p.view(func(tx *bbolt.Tx) error {
		bkt := tx.Bucket(layout.BucketGroups).Bucket(layout.GroupKey(g.id))
		if bkt == nil {
			return fmt.Errorf("%w: it is in the catalogue, but not there", store.ErrDamaged)
		}
		b = bytes.Clone(bkt.Get(layout.KeyGroup))
		return nil
	})
	if err != nil {
		return nil, err
	}
	x, err := g.p.codec.Open(b)
	if err != nil {
		return nil, err
	}
	return &store.Sealed{ID: g.id, Day: g.p.part.Day, Each: func(fn func(string, *event.Event) error) error { return x.Each(fn) }}, nil
}

// discard deletes a group.
func (s *Store) discard(g sealedGroup) error {
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	if err := g.p.reopen(true); err != nil {
		return err
	}
	err := g.p.update(func(tx *bbolt.Tx) error {
		return errors.Join(tx.Bucket(layout.BucketGroups).DeleteBucket(layout.GroupKey(g.id)), tx.Bucket(layout.BucketCatalog).Delete(layout.GroupKey(g.id)))
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g.p.entries = slices.DeleteFunc(slices.Clone(g.p.entries), func(e entry) bool { return e.id == g.id })
	return nil
}

// dropEmpty removes the files of days of which nothing is left but the room that their
// groups took.
func (s *Store) dropEmpty(ctx context.Context) error {
	if s.opts.ReadOnly {
		return nil
	}
	s.mu.Lock()
	var empty []store.Part
	for _, p := range s.parts {
		if p != s.cur && len(p.entries) == 0 {
			empty = append(empty, p.part)
		}
	}
	s.mu.Unlock()
	for _, part := range empty {
		if err := s.Drop(ctx, part); err != nil {
			return err
		}
	}
	return nil
}
