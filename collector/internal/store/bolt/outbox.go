package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// Outbox is a place whose events another engine keeps. Its local half is an embedded
// store, whose groups are those that the engine may not have yet.
//
// A batch takes three steps. First the embedded store appends it: its events, sealed as a
// group, become durable in the same transaction as the writer's state. Then the engine
// appends the group. Last the group is deleted. That stores every event exactly once,
// wherever the collector dies:
//
//   - Before the first step has committed, the state is that of the batch before, and the
//     engine has seen nothing. The writer makes its batches anew from the journal; they may
//     hold other events than those that were lost.
//   - After it, the state counts the batch's records as stored, and the group is there. A
//     group never changes. Whatever the engine took of it before, it gets the same bytes
//     again under the same ID, and recognises it by the ID.
//   - The group is deleted only after the engine's Append has returned nil.
//
// A batch begins its first step only when the batch before has taken all three, so the
// outbox holds one group at most.
//
// A group that is damaged in the outbox cannot be handed over, ever. It is set aside
// (outbox_damage.go): delivery goes on, and every answer that may lack it says so.
type Outbox struct {
	local  *Store
	engine store.Engine

	mu    sync.Mutex // one Append or delivery at a time; taken before the locks of local
	aside uint64     // the damaged group that is set aside and perhaps not deleted yet; guarded by mu
	// owed says that a batch of an earlier process may still be in the outbox. The engine
	// does not have it, and the head does not have it in memory as it has the batches that
	// it appends itself: a search would miss it. While owed is true, Snapshot delivers first.
	owed atomic.Bool
}

var (
	_ store.Store  = (*Outbox)(nil)
	_ store.Remote = (*Outbox)(nil)
	_ seal.Keeper  = (*Outbox)(nil)
)

// NewOutbox returns a place that keeps the events of local's batches in engine; its Close
// closes both. What an earlier process left in the outbox is delivered now. When the engine
// does not take it, the next Append or Snapshot tries again before it does anything else.
func NewOutbox(ctx context.Context, local *Store, engine store.Engine) *Outbox {
	local.elsewhere.Store(true)
	o := &Outbox{local: local, engine: engine}
	o.owed.Store(true)
	if err := o.settle(ctx); err != nil {
		local.log.Warn("the last batch is not with the engine yet: it stays in the outbox, and searches fail until it is", "error", err)
	}
	return o
}

// Has says whether the store has events that are its own, and whether it is marked as one whose events another engine has.
func (s *Store) Has() (events, elsewhere bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.ID > 0 && s.version < layout.ElsewhereVersion, s.version >= layout.ElsewhereVersion
}

// MarkElsewhere marks the store as one whose events another engine has: older programs, which would take it for an empty one, refuse it.
func (s *Store) MarkElsewhere() error {
	if s.opts.ReadOnly || s.version >= layout.ElsewhereVersion {
		return nil
	}
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	if err := layout.WriteMarker(s.opts.Dir, layout.ElsewhereVersion); err != nil {
		return err
	}
	s.version = layout.ElsewhereVersion
	return nil
}

// settle delivers what an earlier process left in the outbox; it does nothing once that
// is done.
func (o *Outbox) settle(ctx context.Context) error {
	if !o.owed.Load() {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.deliver(ctx)
}

// Append takes a batch through all three steps, and before that any group that is still
// in the outbox. After an error the batch is either not in the place at all, or in the
// outbox: appended again it goes on from there.
func (o *Outbox) Append(ctx context.Context, b *store.Batch) error {
	if b.Import != nil {
		return fmt.Errorf("append batch %d, which is an import's: %w", b.ID, store.ErrUnable)
	}
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

// deliver takes each group in the outbox through the second and third step, and removes
// files that are empty afterwards; o.mu is held.
func (o *Outbox) deliver(ctx context.Context) error {
	for _, g := range o.local.sealed() {
		if o.local.opts.ReadOnly {
			return fmt.Errorf("batch %d is not with the engine yet: %w", g.id, store.ErrReadOnly)
		}
		if err := o.handOver(ctx, g); err != nil {
			return fmt.Errorf("deliver batch %d: %w", g.id, err)
		}
	}
	o.owed.Store(false)
	return o.local.dropEmpty(ctx)
}

// handOver takes a group through the second and third step, or sets it aside where it turns
// out to be damaged.
func (o *Outbox) handOver(ctx context.Context, g sealedGroup) error {
	b, damage, err := g.load()
	if err == nil {
		err = o.engine.Append(ctx, b)
	}
	switch {
	case *damage != nil: // what the engine said of it does not matter: it has not got it
		if o.aside != g.id {
			if err := o.local.keepAside(g, *damage); err != nil {
				return err
			}
			o.aside = g.id
		}
		return o.local.discardDamaged(g)
	case err != nil:
		return err
	}
	return o.local.discard(g)
}

// Snapshot returns the engine's snapshot. It fails while a batch of an earlier process
// cannot be delivered, since the answers would lack it.
func (o *Outbox) Snapshot(ctx context.Context) (store.Snapshot, error) {
	if _, err := o.local.lastBatch(); err != nil {
		return nil, err
	}
	if err := o.settle(ctx); err != nil {
		return nil, err
	}
	snap, err := o.engine.Snapshot(ctx)
	if broken := o.local.Missing(); err == nil && len(broken) > 0 {
		snap = &lackingSnapshot{snap, broken}
	}
	return snap, err
}

// Remote implements store.Remote.
func (o *Outbox) Remote() {}

// ID returns the place's ID.
func (o *Outbox) ID() seglog.ID { return o.local.ID() }

// State returns the state of the last batch, which the engine or the outbox has.
func (o *Outbox) State(ctx context.Context) (*store.State, error) { return o.local.State(ctx) }

// Journal returns what the place knows of the journal's segments.
func (o *Outbox) Journal() seglog.Known { return o.local.Journal() }

// KeepJournal makes durable what is known of the journal's segments.
func (o *Outbox) KeepJournal(k seglog.Known, lost []string) error {
	return o.local.KeepJournal(k, lost)
}

// Ledger returns the place's rows: it is the place's, whichever engine has the events.
func (o *Outbox) Ledger(ctx context.Context, hosts []string, from, to int64, fn func(string, *ledger.Row)) (uint64, error) {
	return o.local.Ledger(ctx, hosts, from, to, fn)
}

// LedgerHosts calls fn with the hosts of the place's rows.
func (o *Outbox) LedgerHosts(ctx context.Context, fn func([]byte)) error {
	return o.local.LedgerHosts(ctx, fn)
}

// Holds implements store.Place.
func (o *Outbox) Holds() store.Held { return o.local.Holds() }

// sharing is how long a change of holds waits for the engine; whoever makes it tries again.
const sharing = time.Minute

// KeepHolds implements store.Place. An engine that others drop from knows of holds before the place has kept them.
func (o *Outbox) KeepHolds(h store.Held, holds int, why string) error {
	if e, err := store.Able[store.Shared](o.engine, "share holds"); err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), sharing)
		defer cancel()
		if err := e.KeepHolds(ctx, h.Generation, holds); err != nil {
			return fmt.Errorf("other collectors do not know of it yet, and may drop what is on hold: %w", err)
		}
	}
	return o.local.KeepHolds(h, holds, why)
}

// The place keeps the log of what was stored, also of what the engine has: the leaf of a batch is written with its state, and says
// that its events are elsewhere. So it tells which batches there were and what they held, and proves no single event.

// Seals implements seal.Keeper.
func (o *Outbox) Seals() *seal.Tree { return o.local.Seals() }

// Sealed implements seal.Keeper.
func (o *Outbox) Sealed() <-chan struct{} { return o.local.Sealed() }

// CatchUp implements seal.Keeper. There are no trees: the groups are gone once they are delivered.
func (o *Outbox) CatchUp(ctx context.Context, _ bool) error { return o.local.CatchUp(ctx, false) }

// ProveEvents implements seal.Keeper.
func (o *Outbox) ProveEvents(bool) {}

// VouchWith implements seal.Keeper: nothing is written again.
func (o *Outbox) VouchWith(func(*seal.Leaf) error) {}

// PartHosts implements store.Events.
func (o *Outbox) PartHosts(ctx context.Context, part store.Part, fn func(host string)) error {
	return o.engine.PartHosts(ctx, part, fn)
}

// Stats returns the engine's sizes.
func (o *Outbox) Stats(ctx context.Context) (store.Stats, error) { return o.engine.Stats(ctx) }

// Drop has the engine delete a part.
func (o *Outbox) Drop(ctx context.Context, part store.Part, why string) error {
	return o.engine.Drop(ctx, part, why)
}

// Rotate has the engine end the part being written.
func (o *Outbox) Rotate(ctx context.Context) error { return o.engine.Rotate(ctx) }

// Missing returns what either half lacks.
func (o *Outbox) Missing() []error { return append(o.local.Missing(), o.engine.Missing()...) }

// MayOpen returns how many files both halves together may still open.
func (o *Outbox) MayOpen() int { return o.local.MayOpen() + o.engine.MayOpen() }

// Close closes both halves.
func (o *Outbox) Close() error { return errors.Join(o.local.Close(), o.engine.Close()) }

// sealedGroup is a group in the outbox.
type sealedGroup struct {
	p  *partition
	id uint64
}

// sealed returns the groups in the store's partitions, by ID.
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

// load reads the group. Its bytes are copied, since an engine may take longer than a read
// transaction may last. *damage is set when the group turns out to be damaged: at once, then
// with err, or while an engine reads its events.
func (g sealedGroup) load() (sealed *store.Sealed, damage *error, err error) {
	damage = new(error)
	defer func() {
		if errors.Is(err, store.ErrDamaged) {
			*damage = err
		}
	}()
	var b []byte
	err = g.p.view(func(tx *bbolt.Tx) error {
		bkt := tx.Bucket(layout.BucketGroups).Bucket(layout.GroupKey(g.id))
		if bkt == nil {
			return fmt.Errorf("%w: it is in the catalogue, but not there", store.ErrDamaged)
		}
		b = bytes.Clone(bkt.Get(layout.KeyGroup))
		return nil
	})
	if err != nil {
		return nil, damage, err
	}
	x, err := g.p.codec.Open(b)
	if err != nil {
		return nil, damage, err
	}
	return &store.Sealed{ID: g.id, Day: g.p.part.Day, Each: func(fn func(string, *event.Event) error) error {
		var theirs error // of fn, and none of the group's
		err := x.Each(func(host string, ev *event.Event) error {
			theirs = fn(host, ev)
			return theirs
		})
		if theirs == nil && errors.Is(err, store.ErrDamaged) {
			*damage = err
		}
		return err
	}}, damage, nil
}

// discard deletes a group and its catalogue entry, which the engine has now.
func (s *Store) discard(g sealedGroup) error {
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	return s.discardLocked(g)
}

// discardLocked is discard with appendMu held.
func (s *Store) discardLocked(g sealedGroup) error {
	if err := g.p.reopen(true); err != nil {
		return err
	}
	// In a transaction of its own, after the engine's Append: a crash before it leaves the
	// group there, and it is delivered again.
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

// dropEmpty removes partitions without groups, all but that of the last batch, which has
// the writer's state. bbolt does not give room back: the file goes as a whole.
func (s *Store) dropEmpty(ctx context.Context) error {
	if s.opts.ReadOnly {
		return nil
	}
	s.mu.Lock()
	cur := s.cur
	var empty []*partition
	for _, p := range s.parts {
		if p != cur && len(p.entries) == 0 {
			empty = append(empty, p)
		}
	}
	s.mu.Unlock()
	for _, p := range empty {
		if err := inherit(cur, p); err != nil {
			return err
		}
		if err := s.drop(ctx, p.part, whyHandedOver, false); err != nil { // its events are elsewhere
			return err
		}
	}
	return nil
}
