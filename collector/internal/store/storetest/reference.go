package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"sync"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Reference is a store in memory: a list of all events, sorted for each answer.
type Reference struct {
	mu      sync.Mutex
	state   store.State
	hosts   map[string]store.Host
	senders map[string][]byte
	events  []refEvent
	parts   map[store.Part]int // batches with events
	last    store.Part
}

type refEvent struct {
	id   uint64
	part store.Part
	ev   *event.Event
}

var _ store.Store = (*Reference)(nil)

// NewReference returns an empty reference store.
func NewReference() *Reference {
	return &Reference{hosts: map[string]store.Host{}, senders: map[string][]byte{}, parts: map[store.Part]int{}}
}

// Append takes a batch.
func (r *Reference) Append(_ context.Context, b *store.Batch) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b.ID <= r.state.ID {
		return nil
	}
	if b.ID != r.state.ID+1 {
		return fmt.Errorf("batch %d: %w", b.ID, store.ErrGap)
	}
	part := store.Part{Day: b.Day, N: 1}
	for p := range r.parts {
		if p.Day == part.Day {
			part.N = max(part.N, p.N)
		}
	}
	if _, ok := r.parts[part]; !ok {
		r.parts[part] = 0
	}
	if b.Events != nil && b.Events.Stats().Events > 0 {
		r.parts[part]++
		for _, h := range b.Events.Hosts() {
			for i := range h.Events {
				e := &h.Events[i]
				ev := store.ParseText(slices.Clone(e.Text), e.Counted, []byte(h.Name), e.Origin)
				r.events = append(r.events, refEvent{b.ID, part, ev})
			}
		}
	}
	r.state = store.State{ID: b.ID, LSN: b.LSN, Open: slices.Clone(b.Open)}
	for _, name := range b.Forget {
		delete(r.hosts, name)
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
	r.last = part
	return nil
}

// State is the last batch's.
func (r *Reference) State(context.Context) (*store.State, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.state
	for _, h := range r.hosts {
		s.Hosts = append(s.Hosts, h)
	}
	sort.Slice(s.Hosts, func(i, j int) bool { return s.Hosts[i].Name < s.Hosts[j].Name })
	for k, v := range r.senders {
		s.Senders = append(s.Senders, store.KV{Key: []byte(k), Value: v})
	}
	sort.Slice(s.Senders, func(i, j int) bool { return string(s.Senders[i].Key) < string(s.Senders[j].Key) })
	return &s, nil
}

// Hosts are those of the state.
func (r *Reference) Hosts(ctx context.Context) ([]store.Host, error) {
	s, err := r.State(ctx)
	return s.Hosts, err
}

// Stats counts what there is.
func (r *Reference) Stats(context.Context) (store.Stats, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var s store.Stats
	for _, e := range r.events {
		s.Events++
		s.Records += uint64(len(e.ev.Records))
		s.RawBytes += uint64(e.ev.Size())
	}
	return s, nil
}

// Rotate begins another part of the last batch's day.
func (r *Reference) Rotate(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.parts[r.last] == 0 {
		return nil
	}
	for p := range r.parts {
		if p.Day == r.last.Day {
			r.last.N = max(r.last.N, p.N)
		}
	}
	r.last.N++
	r.parts[r.last] = 0
	return nil
}

// Drop forgets a part.
func (r *Reference) Drop(_ context.Context, part store.Part) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.parts[part]
	switch {
	case !ok:
		return store.ErrNoDay
	case part == r.last:
		return store.ErrInUse
	}
	delete(r.parts, part)
	r.events = slices.DeleteFunc(slices.Clone(r.events), func(e refEvent) bool { return e.part == part })
	return nil
}

// Close does nothing.
func (r *Reference) Close() error { return nil }

type refSnapshot struct {
	id     uint64
	events []refEvent
}

// Snapshot copies the list.
func (r *Reference) Snapshot(context.Context) (store.Snapshot, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &refSnapshot{r.state.ID, slices.Clone(r.events)}, nil
}

func (s *refSnapshot) LastID() uint64 { return s.id }
func (s *refSnapshot) Close() error   { return nil }

// Tally counts nothing: it gives all.
func (s *refSnapshot) Tally(ctx context.Context, q *query.Query, fields []query.Field, rest func(*event.Event) error) (*query.Tally, error) {
	return query.NewTally(fields), s.Scan(ctx, q, rest)
}

func (s *refSnapshot) Scan(ctx context.Context, q *query.Query, fn func(*event.Event) error) error {
	sorted := slices.Clone(s.events)
	slices.SortStableFunc(sorted, func(a, b refEvent) int {
		if c := store.KeyOf(a.ev).Compare(store.KeyOf(b.ev)); c != 0 {
			return c
		}
		return int(int64(a.id) - int64(b.id))
	})
	if q.Reverse {
		slices.Reverse(sorted)
	}
	m := query.NewMatcher(q)
	for _, e := range sorted {
		if err := ctx.Err(); err != nil {
			return err
		}
		if e.id <= q.AfterBatch || !m.Match(e.ev) {
			continue
		}
		ev := *e.ev
		ev.Batch = e.id
		if err := fn(&ev); errors.Is(err, store.ErrStop) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}
