package storetest

import (
	"context"
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/eventtree"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
)

var _ store.Rereader = (*Memory)(nil)

// Held is an event as a Memory has it, for who changes what it has behind everybody's back.
type Held struct {
	Batch uint64
	Place int // in the batch, from 0
	Host  string
	Event *event.Event // not to be changed, but replaced
	// Hidden says that what the engine has beside the event's text, by which it is found, says otherwise.
	Hidden bool
	part   store.Part
}

// Attack has fn change what the engine has, as somebody does who may write there.
func (m *Memory) Attack(fn func([]Held) []Held) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]Held, 0, len(m.events))
	for _, e := range m.events {
		list = append(list, Held{e.id, e.place, e.host, e.ev, e.hidden, e.part})
	}
	m.events = nil
	for _, h := range fn(list) {
		if h.part == (store.Part{}) {
			h.part = m.cur[0]
		}
		m.events = append(m.events, memEvent{id: h.Batch, place: h.Place, part: h.part, host: h.Host, ev: h.Event, hidden: h.Hidden})
	}
}

// Forge has the engine say that a part was dropped, as somebody does who may write there.
func (m *Memory) Forge(d store.DroppedPart) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drops = append(m.drops, d)
}

// Retell replaces what the engine says of a part that was dropped.
func (m *Memory) Retell(d store.DroppedPart) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.IndexFunc(m.drops, func(x store.DroppedPart) bool { return x.Part == d.Part })
	if i < 0 {
		return store.ErrNoDay
	}
	m.drops[i] = d
	return nil
}

// Reread implements store.Rereader.
func (m *Memory) Reread(_ context.Context, list []*store.Reread, columns bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var hasher eventtree.Hasher
	for _, r := range list {
		r.Begin()
		for _, d := range m.drops {
			if d.Part.Day == r.Day && d.First <= r.Batch && r.Batch <= d.Last {
				r.Drops = append(r.Drops, d)
			}
		}
		for part, list := range m.around[r.Batch] {
			if _, is := m.parts[part]; is {
				r.Around = append(r.Around, list...)
			}
		}
		for _, e := range m.events {
			if e.id != r.Batch {
				continue
			}
			x := eventtree.Event{Host: e.host, From: e.ev.From, Receipts: eventtree.AppendReceipts(nil, e.ev)}
			x.Text, x.Counted = store.AppendText(nil, e.ev)
			hash := hasher.Event(&x)
			x.Host = string(e.ev.Node)
			r.Add(uint64(e.place), hash, hasher.Event(&x))
			if columns && e.hidden {
				r.Altered++
			}
		}
	}
	return nil
}

// Around has fn change what completes the roots of a batch, as somebody does who may write there.
func (m *Memory) Around(batch uint64, fn func(d *store.Divided)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, list := range m.around[batch] {
		for i := range list {
			list[i].Proof = slices.Clone(list[i].Proof)
			fn(&list[i])
		}
	}
}

// Counts implements store.Rereader.
func (m *Memory) Counts(_ context.Context, from, to store.Day) (map[uint64][]store.Counted, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	type place struct {
		id   uint64
		part store.Part
	}
	all := map[place]store.Counted{}
	for _, e := range m.events {
		gone := slices.ContainsFunc(m.drops, func(d store.DroppedPart) bool { return d.Part == e.part })
		if e.part.Day < from || e.part.Day > to || gone {
			continue
		}
		c, is := all[place{e.id, e.part}]
		if c.Events++; !is || uint64(e.place) < c.First {
			c.First = uint64(e.place)
		}
		c.Last = max(c.Last, uint64(e.place))
		all[place{e.id, e.part}] = c
	}
	out := map[uint64][]store.Counted{}
	for p, c := range all {
		out[p.id] = append(out[p.id], c)
	}
	return out, nil
}
