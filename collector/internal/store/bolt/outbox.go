package bolt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
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
// The writer does not wait for the second step longer than patience: one goroutine (outbox_deliver.go)
// takes the groups to the engine, one after the other in the order of their IDs. While the engine takes none,
// groups gather on the disk, and nothing of them but a line of the catalogue each in memory; what ends
// that are the disk's limits, which refuse senders. An answer has what the engine has and what
// waits (outbox_snapshot.go).
//
// A group that is damaged in the outbox cannot be handed over, ever. It is set aside
// (outbox_damage.go): delivery goes on, and every answer that may lack it says so.
type Outbox struct {
	local  *Store
	engine store.Engine
	times  outboxTimes

	ctx   context.Context // ends with Close, and with it the delivery
	end   context.CancelFunc
	wg    sync.WaitGroup
	kick  chan struct{} // has an element when there may be something to deliver or to delete
	tight atomic.Bool   // the disk is full
	aside uint64        // the damaged group that is set aside and perhaps not deleted yet; the delivery's

	noting sync.Mutex // guards drops; taken before the others
	drops  drops

	pinning sync.Mutex        // guards pins, and is held while a group is deleted, so that none begins to read it; taken before mu
	pins    map[*pin]struct{} // of snapshots

	mu      sync.Mutex             // guards what follows; never held while a disk works
	aged    map[agedPart]bool      // the drops that the account has; nil: nobody has looked since the start
	own     map[store.Part]ownDrop // parts that this process has the engine drop, until the log has them
	through uint64                 // the last group that the engine has taken in this process
	moved   chan struct{}          // is closed when through moves, and replaced
	waiting store.Waiting          // but for Batches, Events and Bytes
	said    time.Time              // when the log said last that the engine takes nothing; zero once it does
}

// outboxTimes are what tests make shorter.
type outboxTimes struct {
	// patience is how long a batch waits for the engine to take it, while nothing else waits: where it answers, who appends is
	// slowed to its pace.
	patience time.Duration
	// again is how long after a failure the engine is asked again; it doubles up to most.
	again, most time.Duration
	// look is how often it is looked for what other collectors have dropped.
	look time.Duration
	// file is the size from which on batches that wait begin another file: one that is delivered goes as a whole.
	file int64
}

var usualTimes = outboxTimes{patience: 5 * time.Second, again: time.Second, most: 10 * time.Second, look: time.Minute, file: 64 << 20}

var (
	_ store.Store    = (*Outbox)(nil)
	_ store.Remote   = (*Outbox)(nil)
	_ store.Spooler  = (*Outbox)(nil)
	_ store.Dividing = (*Outbox)(nil)
	_ seal.Keeper    = (*Outbox)(nil)
)

// NewOutbox returns a place that keeps the events of local's batches in engine; its Close
// closes both. What an earlier process left in the outbox is delivered from now on.
func NewOutbox(local *Store, engine store.Engine) *Outbox {
	return newOutbox(local, engine, usualTimes)
}

func newOutbox(local *Store, engine store.Engine, times outboxTimes) *Outbox {
	local.elsewhere.Store(true)
	o := &Outbox{local: local, engine: engine, times: times, kick: make(chan struct{}, 1), moved: make(chan struct{}), pins: map[*pin]struct{}{}}
	o.ctx, o.end = context.WithCancel(context.Background())
	if !local.opts.ReadOnly {
		o.wg.Go(o.run)
		if _, err := store.Able[store.Dropping](engine, "say which parts are dropped"); err == nil {
			o.wg.Go(o.watchDrops)
		}
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

// Divide implements store.Dividing. The engine gets a batch as it was divided when it was appended.
func (o *Outbox) Divide(c store.Classes) { o.local.divide(c) }

// divide sets by which classes batches are divided from now on.
func (s *Store) divide(c store.Classes) {
	if c = slices.Clone(c); len(c) == 0 {
		s.classes.Store(nil)
		return
	}
	s.classes.Store(&c)
}

// dividing are the classes by which a batch is divided.
func (s *Store) dividing() store.Classes {
	if c := s.classes.Load(); c != nil && s.elsewhere.Load() {
		return *c
	}
	return nil
}

// Append makes a batch durable, and waits a moment for the engine to take it, where none waits before it. After an error the batch is not in
// the place at all.
func (o *Outbox) Append(ctx context.Context, b *store.Batch) error {
	if b.Import != nil {
		return fmt.Errorf("append batch %d, which is an import's: %w", b.ID, store.ErrUnable)
	}
	behind := !o.has(o.local.lastGroup())
	if (behind || o.pinned()) && o.local.writing() >= o.times.file {
		if err := o.local.Rotate(ctx); err != nil {
			o.local.log.Debug("another file for what waits for the engine", "error", err) // the batch goes to this one
		}
	}
	if err := o.local.Append(ctx, b); err != nil {
		return err
	}
	o.wake()
	if !behind {
		ctx, cancel := context.WithTimeout(ctx, o.times.patience)
		defer cancel()
		_ = o.await(ctx) // it is in the outbox
	}
	return nil
}

// writing is the size of the groups in the file to which batches go. Hosts and their account, which a large fleet's file has more of, do not go with it.
func (s *Store) writing() (size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur == nil {
		return 0
	}
	for i := range s.cur.entries {
		size += int64(s.cur.entries[i].sum.Bytes) //nolint:gosec // of a file
	}
	return size
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

// KeepHolds implements store.Place.
func (o *Outbox) KeepHolds(h store.Held, holds int, why string) error {
	return o.local.KeepHolds(h, holds, why)
}

// The place keeps the log of what was stored, also of what the engine has: the leaf of a batch is written with its state, and says
// that its events are elsewhere. Where ProveEvents has said so, it has the root of the tree over them, by which single events are proved
// once they are read again from there (outbox_reread.go).

// Seals implements seal.Keeper.
func (o *Outbox) Seals() *seal.Tree { return o.local.Seals() }

// Sealed implements seal.Keeper.
func (o *Outbox) Sealed() <-chan struct{} { return o.local.Sealed() }

// CatchUp implements seal.Keeper. It makes no trees: the groups are gone once they are delivered, and what the engine has then may be another
// thing than what was stored. Batches that were appended without a tree have none.
func (o *Outbox) CatchUp(ctx context.Context, _ bool) error {
	o.noteForCheckpoint(ctx)
	return o.local.CatchUp(ctx, false)
}

// ProveEvents implements seal.Keeper. Its pieces are gone with a group, so without it nothing of a batch could be proved.
func (o *Outbox) ProveEvents(yes bool) { o.local.ProveEvents(yes) }

// VouchWith implements seal.Keeper: nothing is written again.
func (o *Outbox) VouchWith(func(*seal.Leaf) error) {}

// settled waits until the engine has all that was appended, for what it does with whole days.
func (o *Outbox) settled(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, o.times.patience)
	defer cancel()
	if err := o.await(ctx); err != nil {
		w := o.Waiting()
		return fmt.Errorf("%d batches wait for the engine since %s: %w", w.Batches, w.Since.Format(time.RFC3339), errors.Join(w.Err, err))
	}
	return nil
}

// Rotate has the engine end the part being written.
func (o *Outbox) Rotate(ctx context.Context) error {
	if err := o.settled(ctx); err != nil {
		return err
	}
	return o.engine.Rotate(ctx)
}

// Missing returns what either half lacks.
func (o *Outbox) Missing() []error { return append(o.local.Missing(), o.engine.Missing()...) }

// MayOpen returns how many files both halves together may still open.
func (o *Outbox) MayOpen() int { return o.local.MayOpen() + o.engine.MayOpen() }

// Close ends the delivery and closes both halves. What was not delivered stays.
func (o *Outbox) Close() error {
	o.end()
	o.wg.Wait()
	return errors.Join(o.local.Close(), o.engine.Close())
}
