package store

import (
	"slices"
	"sort"
	"sync"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Table holds the events of many hosts in memory, with what they can be searched by: a
// vocabulary of all values, and for each event the numbers of its values.
//
// One goroutine calls Add. Any number may search meanwhile, by View, Hosts and Values. A search holds mu only while it copies slice headers and looks up exact values;
// then it reads without a lock. That is safe because nothing that a copied header reaches
// is ever written again:
//   - values, and each host's Events and IDs, are only appended to. Add writes beyond
//     every length that a search can have copied, or into a new array, and leaves the old
//     one as it is.
//   - An event's text is written once, behind the texts that are in its host's chunk
//     already. A chunk that is full is left behind; it is not moved and not used again.
//   - Add releases mu only when an event and its value numbers are both in, so a copy of
//     IDs ends where the copied Events end.
//
// The maps, last, seen, cur and stats change in place: they are used under mu only.
type Table struct {
	mu sync.RWMutex // guards everything below
	x  query.Extractor

	ids    [query.NumIndexed]map[string]uint32 // by field and text: the value's number
	last   [query.NumIndexed]lastValue         // most events of a host have most values of the one before
	values []Value                             // by number
	seen   []uint32                            // by value: the last event that has it, counted from 1

	hosts  map[string]*TableHost
	order  []*TableHost // as they were first seen
	from   map[event.Sender]*event.Sender
	events uint32
	stats  TableStats

	add func(query.Field, []byte) // handed to the extractor; made once
	cur *TableHost                // of the event being added
}

// Value is one value of a field. Its number is its index in Values.
type Value struct {
	Field query.Field
	Text  string
}

// lastValue is the value of a field that was added last: it saves a map lookup when the
// next event has it again.
type lastValue struct {
	text string
	id   uint32
	set  bool
}

// TableStats are a table's sizes.
type TableStats struct {
	Events, Records int
	RawBytes        int64 // of records
	MemBytes        int64 // about what the table takes
	MinMs, MaxMs    int64 // of events that have a time; 0 when none has
}

// TableHost is one host's events in order of arrival. The Table's own is appended to
// under its mu; those that Hosts returns are copies of the slice headers, which callers
// only read.
type TableHost struct {
	Name   string // "" is the host of mixed nodes
	Events []TableEvent
	IDs    []uint32 // numbers of values, event after event; ValuesOf cuts out one's
	chunk  []byte   // the text's latest piece: written behind len only
}

// TableEvent is an event in a table.
type TableEvent struct {
	Ms      int64 // since 1970, by the event's own stamp
	Serial  uint64
	Text    []byte // as AppendText writes it; part of the host's chunk, never changed
	ids     uint32 // where its values begin in IDs
	Records uint16 // 65535 stands for that many or more
	Counted bool   // the form of Text
	Origin
	// Node is set only for a host of mixed nodes (Name "").
	Node string
}

const (
	// A table may be of very many hosts with an event each: what a host takes first
	// is little.
	minChunk  = 512
	maxChunk  = 64 << 10
	minEvents = 4
	minIDs    = 16

	// What is counted in memory beside texts; TestTableMemory compares with the heap.
	valueCost  = 88  // a value, its places in the vocabulary
	eventCost  = 104 // a TableEvent
	hostCost   = 240 // a TableHost, its places
	senderCost = 128 // a sender, its place
)

// textCost is what the allocator takes for so many bytes.
func textCost(n int) int64 { return int64(n+15) &^ 15 }

// NewTable returns an empty table.
func NewTable() *Table {
	t := &Table{hosts: map[string]*TableHost{}, from: map[event.Sender]*event.Sender{}}
	for f := range t.ids {
		t.ids[f] = map[string]uint32{}
	}
	t.add = t.addValue
	return t
}

// Add copies an event into the table, under the name of its host; ev and its bytes are
// the caller's again afterwards. The records' Node must be as ParseRecord sets it for that
// host. One goroutine calls Add; it does nothing for an event without records.
func (t *Table) Add(host string, ev *event.Event) {
	if len(ev.Records) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.cur
	if h == nil || h.Name != host {
		h = t.host(host)
	}
	e := TableEvent{Ms: ev.Ms, Serial: ev.Serial, ids: uint32(len(h.IDs)), Records: uint16(min(len(ev.Records), 1<<16-1))}
	if host == "" {
		e.Node = string(ev.Node)
		t.stats.MemBytes += textCost(len(e.Node))
	}
	e.Text, e.Counted = t.text(h, ev)
	e.Origin = OriginOf(ev)
	t.stats.MemBytes += textCost(len(e.Later))
	e.From = t.sender(ev.From)
	t.events++
	t.x.Index(ev, t.add)
	if len(h.Events) == cap(h.Events) {
		had := cap(h.Events)
		h.Events = slices.Grow(h.Events, max(minEvents, len(h.Events))) // append's own steps copy twice as much
		t.stats.MemBytes += int64(cap(h.Events)-had) * eventCost
	}
	h.Events = append(h.Events, e)

	s := &t.stats
	s.Events++
	s.Records += len(ev.Records)
	raw := ev.Size()
	s.RawBytes += int64(raw)
	if ev.Ms != 0 {
		if s.MinMs == 0 || ev.Ms < s.MinMs {
			s.MinMs = ev.Ms
		}
		if s.MaxMs == 0 || ev.Ms > s.MaxMs {
			s.MaxMs = ev.Ms
		}
	}
}

// host returns the host of that name, made when it is new, and makes it cur; the caller
// holds t.mu.
func (t *Table) host(name string) *TableHost {
	h := t.hosts[name]
	if h == nil {
		h = &TableHost{Name: name}
		t.hosts[name] = h
		t.order = append(t.order, h)
		t.stats.MemBytes += hostCost + textCost(len(name))
	}
	t.cur = h
	return h
}

// sender returns the table's own copy of s, one for all events of a sender; the caller
// holds t.mu.
func (t *Table) sender(s *event.Sender) *event.Sender {
	if s == nil {
		return nil
	}
	own := t.from[*s]
	if own == nil {
		copied := *s
		own = &copied
		t.from[copied] = own
		t.stats.MemBytes += senderCost
	}
	return own
}

// text writes the event's text into the host's chunk and returns it, and whether it is
// counted; the caller holds t.mu. When the chunk has no room a new one is begun: a
// chunk is never moved, so that a text which a search holds stays as it is.
func (t *Table) text(h *TableHost, ev *event.Event) ([]byte, bool) {
	need := textSize(ev)
	if cap(h.chunk)-len(h.chunk) < need {
		size := minChunk
		if cap(h.chunk) > 0 {
			size = min(2*cap(h.chunk), maxChunk)
		}
		h.chunk = make([]byte, 0, max(size, need))
		t.stats.MemBytes += int64(cap(h.chunk))
	}
	at := len(h.chunk)
	var counted bool
	h.chunk, counted = AppendText(h.chunk, ev)
	return h.chunk[at:len(h.chunk):len(h.chunk)], counted
}

// addValue gives v a number, when it is new, and appends the number to the present
// event's, once. The extractor calls it from within Add, which holds t.mu; v is valid
// during the call only.
func (t *Table) addValue(f query.Field, v []byte) {
	if int(f) >= len(t.ids) {
		return
	}
	l := &t.last[f]
	if !l.set || l.text != string(v) {
		id, ok := t.ids[f][string(v)]
		if !ok {
			id = uint32(len(t.values))
			text := string(v)
			t.ids[f][text] = id
			t.values = append(t.values, Value{f, text})
			t.seen = append(t.seen, 0)
			t.stats.MemBytes += textCost(len(v)) + valueCost
		}
		*l = lastValue{t.values[id].Text, id, true}
	}
	id := l.id
	if t.seen[id] == t.events { // this event has it already
		return
	}
	t.seen[id] = t.events
	if h := t.cur; len(h.IDs) == cap(h.IDs) {
		had := cap(h.IDs)
		h.IDs = slices.Grow(h.IDs, max(minIDs, len(h.IDs)))
		t.stats.MemBytes += 4 * int64(cap(h.IDs)-had)
	}
	t.cur.IDs = append(t.cur.IDs, id)
}

// Stats returns the table's sizes.
func (t *Table) Stats() TableStats {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.stats
}

// Values returns the vocabulary so far, by number; callers only read it.
func (t *Table) Values() []Value {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.values[:len(t.values):len(t.values)]
}

// Hosts returns the table's hosts by name, each with the events it has now.
func (t *Table) Hosts() []TableHost { return t.View().byName() }

// ValuesOf returns the numbers of the values of the host's event i; callers only read
// them. h must be one that Hosts returned.
func (h *TableHost) ValuesOf(i int) []uint32 {
	end := uint32(len(h.IDs))
	if i+1 < len(h.Events) {
		end = h.Events[i+1].ids
	}
	return h.IDs[h.Events[i].ids:end]
}

// Order returns the indexes of the host's events by time, node and serial; events that
// are equal in all three stay in order of arrival.
func (h *TableHost) Order() []int32 {
	out := make([]int32, len(h.Events))
	sorted := true
	for i := range out {
		out[i] = int32(i)
		sorted = sorted && (i == 0 || !h.Events[i].before(&h.Events[i-1]))
	}
	if !sorted {
		sort.SliceStable(out, func(i, j int) bool { return h.Events[out[i]].before(&h.Events[out[j]]) })
	}
	return out
}

// before is the order at rest of events of one host: time, node, serial.
func (e *TableEvent) before(o *TableEvent) bool {
	if e.Ms != o.Ms {
		return e.Ms < o.Ms
	}
	if e.Node != o.Node {
		return e.Node < o.Node
	}
	return e.Serial < o.Serial
}
