package store

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Conditions are a query in the index's terms. An event that matches the query meets
// every one of them; an event that meets them all may still not match: the index only
// narrows, the matcher decides.
type Conditions []Condition

// Condition is met by an event that has, in one of Fields, a value that Match accepts.
// Exact, when not nil, lists every value that Match can accept, and makes the search a
// lookup. Contains, when not empty, says that Match accepts exactly the values that
// contain it; Part, that it accepts none that does not contain this. Match must not keep or change its argument, which may be mapped memory.
type Condition struct {
	Fields   []query.Field
	Exact    []string
	Contains string
	Part     string
	Match    func(v []byte) bool
	// Decides says that the event meets the query's part, too, when it meets this.
	Decides bool
}

// Decide reports whether an event that meets them all matches q, but for its time, its serial and its
// host, which are not conditions.
func (c Conditions) Decide(q *query.Query) bool {
	return len(q.Filters) == 0 && !q.Mismatch && len(q.From) == 0 && !slices.ContainsFunc(c, func(c Condition) bool { return !c.Decides })
}

// decides says whether the index has of a term's fields what a Matcher compares. Of a number's
// text that is so where the whole of it is compared.
func decides(t *query.Term) bool {
	switch t.Op {
	case query.OpEqual:
		return true
	case query.OpContains, query.OpRegexp:
		return !slices.ContainsFunc(t.Fields, query.Field.IsNumber)
	}
	return false
}

// ConditionsOf returns the necessary conditions of a query. A query that the index cannot
// narrow has none.
func ConditionsOf(q *query.Query) Conditions {
	var out Conditions
	if len(q.Types) > 0 {
		c := Condition{Fields: []query.Field{query.FieldType}, Decides: true}
		for _, t := range q.Types {
			c.Exact = append(c.Exact, strconv.FormatUint(uint64(t), 10))
		}
		c.Match = func(v []byte) bool { return slices.Contains(c.Exact, string(v)) }
		out = append(out, c)
	}
	if q.Mismatch {
		out = append(out, Condition{Fields: []query.Field{query.FieldClaim}, Match: func([]byte) bool { return true }})
	}
	needs := q.Needs()
	for i := range needs {
		t := &needs[i]
		c := Condition{Fields: t.Fields, Match: t.Values(), Part: t.Part(), Decides: decides(t)}
		if t.Op == query.OpContains {
			c.Contains = t.Text
		}
		if exact, ok := t.Exact(); ok {
			c.Exact = exact
			if c.Exact == nil {
				c.Exact = []string{}
			}
		}
		out = append(out, c)
	}
	return out
}

// Ref is an event found in memory, not parsed yet. It stays valid while the table is
// added to.
type Ref struct {
	query.Key
	Batch uint64 // that the event will be in; 0 of an open one
	host  string
	event *TableEvent
	open  *Open
}

// Event parses the event. Its bytes are the table's: they must not be changed.
func (r *Ref) Event() *event.Event {
	if r.open != nil {
		return r.open.event(r.host)
	}
	ev := ParseText(r.event.Text, r.event.Counted, []byte(r.host), r.event.Origin)
	ev.Batch = r.Batch
	return ev
}

// Found returns the event as text; ev is what Event has returned.
func (r *Ref) Found(ev *event.Event) Found {
	if r.open != nil {
		return FoundOf(ev)
	}
	e := r.event
	return Found{Key: r.Key, Batch: r.Batch, Host: r.host, Text: e.Text, Counted: e.Counted, Origin: e.Origin}
}

// View is the events that a table has at one moment. It stays as it is while the table is
// added to, and may be searched by several goroutines.
type View struct {
	t     *Table
	hosts []TableHost // not to be changed
}

// View copies no more than each host's slice headers, cut to their present lengths.
func (t *Table) View() View {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := make([]TableHost, len(t.order))
	for i, h := range t.order {
		out[i] = TableHost{Name: h.Name, Events: h.Events[:len(h.Events):len(h.Events)], IDs: h.IDs[:len(h.IDs):len(h.IDs)]}
	}
	return View{t, out}
}

// byName returns a copy of the hosts in order of their names.
func (v View) byName() []TableHost {
	out := slices.Clone(v.hosts)
	slices.SortFunc(out, func(a, b TableHost) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Select returns the events that may match a query, in order of time, node and serial.
// The caller's matcher decides which of them do. It may run beside Add; see Table for why.
func (v View) Select(q *query.Query) []Ref {
	t, hosts := v.t, v.byName()
	t.mu.RLock()
	values := t.values[:len(t.values):len(t.values)]
	sets := make([]valueSet, 0, 4)
	for _, c := range ConditionsOf(q) {
		sets = append(sets, t.lookup(c))
	}
	t.mu.RUnlock()
	for i := range sets {
		sets[i].walk(values)
		if sets[i].empty() {
			return nil
		}
	}
	var out []Ref
	for i := range hosts {
		h := &hosts[i]
		if h.Name != "" && !q.WantsNode(h.Name) {
			continue
		}
		for k := range h.Events {
			e := &h.Events[k]
			if !InTime(q, e.Ms) || q.HasSerial && e.Serial != q.Serial || !q.IsFrom(e.From) || !meets(sets, h.ValuesOf(k)) {
				continue
			}
			node := h.Name
			if node == "" {
				node = e.Node
			}
			out = append(out, Ref{Key: query.Key{Ms: e.Ms, Node: node, Serial: e.Serial}, host: h.Name, event: e})
		}
	}
	slices.SortStableFunc(out, func(a, b Ref) int { return a.Compare(b.Key) })
	return out
}

// InTime says whether a time lies within the query's bounds.
func InTime(q *query.Query, ms int64) bool {
	return (q.StartMs == 0 || ms >= q.StartMs) && (q.EndMs == 0 || ms <= q.EndMs)
}

// valueSet is the set of values, by number, that meet a condition: a list for an exact
// condition, else a bitmap over the vocabulary.
type valueSet struct {
	few  []uint32   // of an exact condition
	many []uint64   // a bit a value; walk fills it
	cond *Condition // nil for an exact condition
}

// lookup finds the values of an exact condition; the caller holds t.mu. Any other
// condition needs a walk over the whole vocabulary: that is left to walk, which runs
// without the lock and so does not hold up Add.
func (t *Table) lookup(c Condition) valueSet {
	if c.Exact == nil {
		return valueSet{cond: &c}
	}
	s := valueSet{few: []uint32{}}
	for _, f := range c.Fields {
		if int(f) >= len(t.ids) {
			continue
		}
		for _, v := range c.Exact {
			if id, ok := t.ids[f][v]; ok {
				s.few = append(s.few, id)
			}
		}
	}
	return s
}

// walk tests each value of the condition's fields. values is a copy of the vocabulary's
// slice header, taken under t.mu; the values that it reaches never change.
func (s *valueSet) walk(values []Value) {
	if s.cond == nil {
		return
	}
	var want [query.NumIndexed]bool
	for _, f := range s.cond.Fields {
		if int(f) < len(want) {
			want[f] = true
		}
	}
	s.many = make([]uint64, (len(values)+63)/64)
	var buf []byte
	for id := range values {
		if !want[values[id].Field] {
			continue
		}
		buf = append(buf[:0], values[id].Text...)
		if s.cond.Match(buf) {
			s.many[id/64] |= 1 << (id % 64)
		}
	}
}

func (s *valueSet) empty() bool {
	if s.cond == nil {
		return len(s.few) == 0
	}
	for _, w := range s.many {
		if w != 0 {
			return false
		}
	}
	return true
}

func (s *valueSet) has(id uint32) bool {
	if s.cond == nil {
		return slices.Contains(s.few, id)
	}
	return int(id/64) < len(s.many) && s.many[id/64]&(1<<(id%64)) != 0
}

// meets reports whether the event with these value numbers meets every condition.
func meets(sets []valueSet, ids []uint32) bool {
	for i := range sets {
		if !slices.ContainsFunc(ids, sets[i].has) {
			return false
		}
	}
	return true
}
