package storetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Memory is an engine too simple to be wrong: a list of all events, sorted for each answer.
// It keeps its events when it is closed, as an engine on another machine would.
type Memory struct {
	// Fault, when set, is called when an Append begins and, with done true, when it has
	// taken the batch; Append returns its error. It is set before the first Append.
	Fault func(done bool) error
	// Store is the ID that parts are said to be dropped by.
	Store string

	mu     sync.Mutex          // guards everything below
	last   uint64              // ID of the last batch
	sums   map[uint64][32]byte // by batch: SHA-256 of its events
	events []memEvent          // replaced or appended to, never changed
	parts  map[store.Part]int  // how many batches each has
	class  map[store.Part]string
	cur    []store.Part // those being written, of one day
	around map[uint64]map[store.Part][]store.Divided
	drops  []store.DroppedPart
}

// memEvent is an event with the batch and part that it is in.
type memEvent struct {
	id    uint64
	place int // in the batch
	part  store.Part
	host  string
	ev    *event.Event
	// hidden: see Held
	hidden bool
}

var (
	_ store.Engine   = (*Memory)(nil)
	_ store.Dropping = (*Memory)(nil)
)

// ErrChanged is returned by Memory.Append for a batch that it has with other content.
var ErrChanged = errors.New("a batch came again with other content")

// NewMemory returns an empty engine.
func NewMemory() *Memory {
	return &Memory{sums: map[uint64][32]byte{}, parts: map[store.Part]int{}, class: map[store.Part]string{}, around: map[uint64]map[store.Part][]store.Divided{}}
}

// Append takes a batch, once; see ErrChanged.
func (m *Memory) Append(_ context.Context, b *store.Sealed) error {
	if m.Fault != nil {
		if err := m.Fault(false); err != nil {
			return err
		}
	}
	if err := m.append(b); err != nil || m.Fault == nil {
		return err
	}
	return m.Fault(true)
}

func (m *Memory) append(b *store.Sealed) error {
	var list []memEvent
	var classes []int
	sum := sha256.New()
	divided := []store.Divided{{}}
	next := func() (int, uint64) { return 0, uint64(len(list)) }
	if b.Division != nil {
		divided, next = b.Division.Classes, b.Division.Places()
		fmt.Fprintf(sum, "%x", b.Division.Encode())
	}
	err := b.Each(func(host string, ev *event.Event) error {
		fmt.Fprintf(sum, "%q %s%s", host, Text(ev), origins(ev))
		class, place := next()
		classes = append(classes, class)
		list = append(list, memEvent{id: b.ID, place: int(place), host: host, ev: copyOf(host, ev)})
		return nil
	})
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if b.ID <= m.last {
		if m.sums[b.ID] != [32]byte(sum.Sum(nil)) {
			return fmt.Errorf("batch %d: %w", b.ID, ErrChanged)
		}
		return nil
	}
	m.cur, m.around[b.ID] = nil, map[store.Part][]store.Divided{}
	for i, d := range divided {
		part := m.partFor(b.Day, d.Name)
		for j := range list {
			if classes[j] == i {
				list[j].part = part
			}
		}
		m.parts[part]++
		m.class[part], m.cur = d.Name, append(m.cur, part)
		if d.Name != "" {
			m.around[b.ID][part] = append(m.around[b.ID][part], d)
		}
	}
	m.events = append(m.events, list...)
	m.last, m.sums[b.ID] = b.ID, [32]byte(sum.Sum(nil))
	return nil
}

// partFor returns the part of a class of a day: the last one, or one behind all of the day.
func (m *Memory) partFor(day store.Day, class string) store.Part {
	part, last := store.Part{Day: day}, 0
	for p := range m.parts {
		if p.Day != day {
			continue
		}
		if last = max(last, p.N); m.class[p] == class {
			part.N = max(part.N, p.N)
		}
	}
	if part.N == 0 {
		part.N = last + 1
	}
	return part
}

// written reports whether a batch may go to a part.
func (m *Memory) written(p store.Part) bool {
	return slices.Contains(m.cur, p) || len(m.cur) > 0 && p.Day == m.cur[0].Day && m.class[p] != "" && m.partFor(p.Day, m.class[p]) == p
}

// copyOf returns a copy of an event with bytes of its own.
func copyOf(host string, ev *event.Event) *event.Event {
	origin := store.OriginOf(ev)
	if ev.From != nil {
		from := *ev.From
		origin.From = &from
	}
	text, counted := store.AppendText(nil, ev)
	return store.ParseText(text, counted, []byte(host), origin)
}

// Stats counts the events of each part.
func (m *Memory) Stats(context.Context) (store.Stats, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var s store.Stats
	for p := range m.parts {
		s.Parts = append(s.Parts, store.PartStats{Part: p, Received: p.Day, Sealed: !m.written(p), Class: m.class[p]})
	}
	slices.SortFunc(s.Parts, func(a, b store.PartStats) int { return a.Compare(b.Part) })
	for _, e := range m.events {
		i := slices.IndexFunc(s.Parts, func(p store.PartStats) bool { return p.Part == e.part })
		p := &s.Parts[i]
		p.LastID = e.id
		p.Events++
		p.Records += uint64(len(e.ev.Records))
		p.RawBytes += uint64(e.ev.Size())
		if e.ev.Ms != 0 && (p.MinMs == 0 || e.ev.Ms < p.MinMs) {
			p.MinMs = e.ev.Ms
		}
		p.MaxMs = max(p.MaxMs, e.ev.Ms)
	}
	for _, p := range s.Parts {
		s.Events, s.Records, s.RawBytes = s.Events+p.Events, s.Records+p.Records, s.RawBytes+p.RawBytes
		if p.MinMs != 0 && (s.MinMs == 0 || p.MinMs < s.MinMs) {
			s.MinMs = p.MinMs
		}
		s.MaxMs = max(s.MaxMs, p.MaxMs)
	}
	return s, nil
}

// PartHosts returns the hosts of a part's events.
func (m *Memory) PartHosts(_ context.Context, part store.Part, fn func(host string)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.parts[part]; !ok {
		return store.ErrNoDay
	}
	for _, e := range m.events {
		if e.part == part {
			fn(e.host)
		}
	}
	return nil
}

// Rotate begins another part of the last batch's day.
func (m *Memory) Rotate(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.cur) == 0 {
		return nil
	}
	var list []store.Part
	last := 0
	for p, n := range m.parts {
		if p.Day == m.cur[0].Day {
			if last = max(last, p.N); m.written(p) && n > 0 {
				list = append(list, p)
			}
		}
	}
	for _, p := range list {
		last++
		now := store.Part{Day: p.Day, N: last}
		m.parts[now], m.class[now] = 0, m.class[p]
		m.cur = append(slices.DeleteFunc(slices.Clone(m.cur), func(x store.Part) bool { return x == p }), now)
	}
	return nil
}

// Drop deletes a part's events.
func (m *Memory) Drop(ctx context.Context, part store.Part, why string) error {
	_, err := m.DropOwn(ctx, part, why)
	return err
}

// DropOwn implements store.OwnDropping.
func (m *Memory) DropOwn(_ context.Context, part store.Part, why string) (*store.DroppedPart, error) {
	return m.drop(part, m.Store, why)
}

// DropBy is Drop by the collector of another store.
func (m *Memory) DropBy(part store.Part, by, why string) error {
	_, err := m.drop(part, by, why)
	return err
}

func (m *Memory) drop(part store.Part, by, why string) (own *store.DroppedPart, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.parts[part]
	switch {
	case !ok:
		return nil, store.ErrNoDay
	case m.written(part):
		return nil, store.ErrInUse
	}
	d := store.DroppedPart{Part: part, Class: m.class[part], At: time.Now(), By: by, Why: why}
	batches := map[uint64]bool{}
	for _, e := range m.events {
		if e.part != part {
			continue
		}
		if d.First == 0 || e.id < d.First {
			d.First = e.id
		}
		batches[e.id] = true
		d.Last, d.Batches, d.Events = max(d.Last, e.id), uint64(len(batches)), d.Events+1
	}
	if d.Events > 0 {
		own = &d
		if i := slices.IndexFunc(m.drops, func(x store.DroppedPart) bool { return x.Part == part }); i < 0 {
			m.drops = append(m.drops, d)
		} else { // somebody has said so before
			m.drops[i].First, m.drops[i].Last = min(m.drops[i].First, d.First), max(m.drops[i].Last, d.Last)
		}
	}
	delete(m.parts, part)
	m.events = slices.DeleteFunc(slices.Clone(m.events), func(e memEvent) bool { return e.part == part })
	return own, nil
}

// Drops implements store.Dropping.
func (m *Memory) Drops(context.Context) ([]store.DroppedPart, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := slices.Clone(m.drops)
	for i := range list {
		d := &list[i]
		d.DayGone, d.ClassGone = true, d.Class != ""
		for part, n := range m.parts {
			d.DayGone = d.DayGone && part.Day != d.Part.Day
			d.ClassGone = d.ClassGone && (part.Day != d.Part.Day || m.class[part] != d.Class || n == 0)
			if d.Class == store.Undivided && part.Day == d.Part.Day && n > 0 {
				d.There = append(d.There, m.class[part])
			}
		}
	}
	return list, nil
}

// Missing returns nothing.
func (m *Memory) Missing() []error { return nil }

// MayOpen returns 0.
func (m *Memory) MayOpen() int { return 0 }

// Close does nothing.
func (m *Memory) Close() error { return nil }

// memSnapshot is the list of events as it was at one moment.
type memSnapshot struct {
	id     uint64
	events []memEvent
}

// Snapshot copies the list.
func (m *Memory) Snapshot(ctx context.Context) (store.Snapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &memSnapshot{m.last, slices.Clone(m.events)}, ctx.Err()
}

func (s *memSnapshot) LastID() uint64 { return s.id }
func (s *memSnapshot) Close() error   { return nil }

// Tally counts nothing and gives every matching event to rest.
func (s *memSnapshot) Tally(ctx context.Context, q *query.Query, fields []query.Field, rest func(*event.Event) error) (*query.Tally, error) {
	return query.NewTally(fields, nil), s.Scan(ctx, q, rest)
}

func (s *memSnapshot) Scan(ctx context.Context, q *query.Query, fn func(*event.Event) error) error {
	sorted := slices.Clone(s.events)
	slices.SortStableFunc(sorted, func(a, b memEvent) int {
		if c := query.KeyOf(a.ev).Compare(query.KeyOf(b.ev)); c != 0 {
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
		if err := fn(&ev); errors.Is(err, query.ErrStop) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}
