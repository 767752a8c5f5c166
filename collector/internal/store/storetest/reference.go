package storetest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// Reference is a store in memory: a place too simple to be wrong, with a Memory as its
// engine.
type Reference struct {
	*Memory
	id seglog.ID

	mu      sync.Mutex // guards everything below
	state   store.State
	hosts   map[string]store.Host
	senders map[string][]byte
	ledger  map[string]*kept
	journal seglog.Known
	lost    []error
	closed  bool
	holds   store.Held
}

// kept is what the ledger has of a host.
type kept struct {
	tracker []byte // nil: it was forgotten
	rows    []*ledger.Row
}

var _ store.Store = (*Reference)(nil)

// NewReference returns an empty reference store.
func NewReference() *Reference {
	return &Reference{Memory: NewMemory(), id: seglog.ID{1}, hosts: map[string]store.Host{}, senders: map[string][]byte{}, ledger: map[string]*kept{}}
}

// ID returns an ID that is the same for all References.
func (r *Reference) ID() seglog.ID { return r.id }

// Append stores a batch.
func (r *Reference) Append(ctx context.Context, b *store.Batch) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return store.ErrClosed
	case b.ID <= r.state.ID:
		return nil
	case b.ID != r.state.ID+1:
		return fmt.Errorf("batch %d: %w", b.ID, store.ErrGap)
	}
	if b.Events != nil && b.Events.Stats().Events > 0 {
		if err := r.Memory.Append(ctx, seal(b)); err != nil {
			return err
		}
	}
	r.state = store.State{ID: b.ID, LSN: b.LSN, Open: slices.Clone(b.Open)}
	for _, name := range b.Forget {
		delete(r.hosts, name)
		if k := r.ledger[name]; k != nil {
			k.tracker = nil
		}
	}
	for _, l := range b.Ledger {
		if r.ledger[l.Host] == nil {
			r.ledger[l.Host] = &kept{}
		}
		k := r.ledger[l.Host]
		k.rows = append(k.rows, l.Rows...)
		if l.Tracker != nil {
			k.tracker = slices.Clone(l.Tracker)
		}
	}
	for _, h := range b.Hosts {
		r.hosts[h.Name] = h
	}
	for _, kv := range b.Senders {
		if kv.Value == nil {
			delete(r.senders, string(kv.Key))
		} else {
			r.senders[string(kv.Key)] = slices.Clone(kv.Value)
		}
	}
	return nil
}

// seal returns a batch's events as an outbox would.
func seal(b *store.Batch) *store.Sealed {
	return &store.Sealed{ID: b.ID, Day: b.Day, Each: func(fn func(string, *event.Event) error) error {
		for _, h := range b.Events.Hosts() {
			for _, i := range h.Order() {
				e := &h.Events[i]
				if err := fn(h.Name, store.ParseText(slices.Clone(e.Text), e.Counted, []byte(h.Name), e.Origin)); err != nil {
					return err
				}
			}
		}
		return nil
	}}
}

// State returns the state of the last batch.
func (r *Reference) State(context.Context) (*store.State, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, store.ErrClosed
	}
	s := r.state
	for _, h := range r.hosts {
		s.Hosts = append(s.Hosts, h)
	}
	slices.SortFunc(s.Hosts, func(a, b store.Host) int { return cmp.Compare(a.Name, b.Name) })
	for k, v := range r.senders {
		s.Senders = append(s.Senders, store.KV{Key: []byte(k), Value: v})
	}
	for name, k := range r.ledger {
		if k.tracker != nil {
			s.Ledger = append(s.Ledger, store.KV{Key: []byte(name), Value: k.tracker})
		}
	}
	slices.SortFunc(s.Ledger, func(a, b store.KV) int { return slices.Compare(a.Key, b.Key) })
	slices.SortFunc(s.Senders, func(a, b store.KV) int { return slices.Compare(a.Key, b.Key) })
	return &s, nil
}

// Ledger returns the rows of all batches.
func (r *Reference) Ledger(_ context.Context, hosts []string, from, to int64, fn func(string, *ledger.Row)) (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return 0, store.ErrClosed
	}
	for _, name := range hosts {
		k := r.ledger[name]
		if k == nil {
			continue
		}
		for _, row := range k.rows {
			if row.Start < to && row.Start+row.Length > from {
				fn(name, row)
			}
		}
	}
	return r.state.ID, nil
}

// LedgerHosts returns the hosts that have rows.
func (r *Reference) LedgerHosts(_ context.Context, fn func([]byte)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return store.ErrClosed
	}
	for name, k := range r.ledger {
		if len(k.rows) > 0 {
			fn([]byte(name))
		}
	}
	return nil
}

// Journal returns what KeepJournal got last.
func (r *Reference) Journal() seglog.Known {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.journal
}

// Holds implements store.Place.
func (r *Reference) Holds() store.Held {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.holds
}

// KeepHolds implements store.Place.
func (r *Reference) KeepHolds(h store.Held, _ int, _ string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.holds = h
	return nil
}

// KeepJournal keeps both in memory.
func (r *Reference) KeepJournal(k seglog.Known, lost []string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.journal = k
	for _, text := range lost {
		r.lost = append(r.lost, fmt.Errorf("%w: %s", store.ErrDamaged, text))
	}
	return nil
}

// Missing returns what KeepJournal got as lost.
func (r *Reference) Missing() []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.lost)
}

// Snapshot returns the engine's snapshot.
func (r *Reference) Snapshot(ctx context.Context) (store.Snapshot, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, store.ErrClosed
	}
	return r.Memory.Snapshot(ctx)
}

// Close closes the store; Reopened opens what it held again.
func (r *Reference) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	return nil
}

// Reopened returns an open store with what r holds.
func (r *Reference) Reopened() *Reference {
	return &Reference{Memory: r.Memory, id: r.id, state: r.state, hosts: r.hosts, senders: r.senders, ledger: r.ledger, journal: r.journal, lost: r.lost, holds: r.holds}
}
