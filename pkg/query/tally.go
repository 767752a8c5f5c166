package query

import "github.com/auditfleet/auditfleet/pkg/event"

// A Tally counts events by the values of some fields: for each value, how many events
// have it. One goroutine may use it; Merge combines those of several.
type Tally struct {
	Events          int64 // the number of events counted
	FirstMs, LastMs int64 // of their times, when Any
	Any             bool
	asked           [NumIndexed]bool
	fields          [NumIndexed]*Values // of those asked for; where combinations are, of FieldEach alone
	each            *combining          // nil where combinations are not asked for
	apart           [NumIndexed]bool
	setApart        bool         // the present event has a value of a field in apart
	present         []eventValue // what AddEvent has read of the present event, in text
	text            []byte
	x               Extractor
	n               uint64
	by              int64
	add             func(Field, []byte)
	full            bool // memory has no more
}

// Values holds the values of one field and, for each, the number of events that have it.
type Values struct {
	all    map[string]*valueCount
	list   []*valueCount // as they came
	memory *Memory
	full   *bool // of the tally
}

type valueCount struct {
	v    string
	n    int64
	last uint64 // the event that was counted last
}

// valueBytes is about what a value takes beside its text: a valueCount, its place in the
// list, and its share of the map.
const valueBytes = 120

// NewTally returns an empty Tally of the given fields, which takes memory for each value.
func NewTally(fields []Field, memory *Memory) *Tally {
	t := &Tally{}
	for _, f := range fields {
		t.asked[f] = true
	}
	counted := fields
	if t.asked[FieldEach] {
		t.each = newCombining(fields)
		counted = []Field{FieldEach}
	}
	for _, f := range counted {
		t.fields[f] = &Values{all: map[string]*valueCount{}, memory: memory, full: &t.full}
	}
	for _, f := range Apart(fields) {
		t.apart[f] = true
	}
	t.add = func(f Field, v []byte) {
		if vs := t.fields[f]; vs != nil {
			// As in an index, an event has a value once.
			if c := vs.of(v); c.last != t.n {
				c.last = t.n
				c.n += t.by
			}
		}
	}
	return t
}

// Err returns ErrMemory if the values that were added needed more memory than there was.
// The counts are right nevertheless: the caller decides how often it asks, and so by how
// much the bound is passed.
func (t *Tally) Err() error {
	if t.full {
		return ErrMemory
	}
	return nil
}

// Of returns the values of field f, or nil when the tally does not count that field.
func (t *Tally) Of(f Field) *Values { return t.fields[f] }

// Time extends the range FirstMs to LastMs so that it contains both times.
func (t *Tally) Time(first, last int64) {
	if !t.Any || first < t.FirstMs {
		t.FirstMs = first
	}
	if !t.Any || last > t.LastMs {
		t.LastMs = last
	}
	t.Any = true
}

// TakeBack subtracts the values of an event that was counted before.
func (t *Tally) TakeBack(ev *event.Event) {
	if t.Events--; t.each != nil {
		t.combine(ev, -1)
		return
	}
	t.n++
	t.by = -1
	t.x.Index(ev, t.add)
	t.place(string(ev.Node), ev.Ms, -1)
}

// eventValue is a value of the event that a tally has read.
type eventValue struct {
	field    Field
	from, to int // in Tally.text
}

// AddEvent counts an event as its values in an index would be. It counts nothing and returns false where the event
// must not be counted: see Apart.
func (t *Tally) AddEvent(ev *event.Event) bool {
	if t.each == nil || t.asked[FieldUnnamed] {
		t.setApart, t.present, t.text = false, t.present[:0], t.text[:0]
		t.x.Index(ev, t.keep)
		if t.setApart {
			return false
		}
	}
	if t.each != nil {
		t.Time(ev.Ms, ev.Ms)
		t.Events++
		t.combine(ev, 1)
		return true
	}
	t.n++
	t.by = 1
	for _, v := range t.present {
		t.add(v.field, t.text[v.from:v.to])
	}
	t.Place(string(ev.Node), ev.Ms, ev.Ms, 1)
	return true
}

// keep keeps a value of the present event.
func (t *Tally) keep(f Field, v []byte) {
	t.setApart = t.setApart || t.apart[f]
	if t.fields[f] != nil {
		t.present = append(t.present, eventValue{f, len(t.text), len(t.text) + len(v)})
		t.text = append(t.text, v...)
	}
}

// Merge adds the counts of o, a tally of the same fields. o must not be used afterwards.
func (t *Tally) Merge(o *Tally) {
	if o.Any {
		t.Time(o.FirstMs, o.LastMs)
	}
	t.Events += o.Events
	t.n = max(t.n, o.n) // counts may come over as they are
	t.full = t.full || o.full
	for f, vs := range o.fields {
		if mine := t.fields[f]; mine != nil && vs != nil {
			if len(mine.list) == 0 {
				mine.all, vs.all = vs.all, mine.all // millions of values at times
				mine.list, vs.list = vs.list, mine.list
				continue
			}
			for _, c := range vs.list {
				mine.AddString(c.v, c.n)
			}
		}
	}
}

func (vs *Values) of(v []byte) *valueCount {
	if c := vs.all[string(v)]; c != nil {
		return c
	}
	return vs.make(string(v))
}

func (vs *Values) make(v string) *valueCount {
	c := &valueCount{v: v}
	if !vs.memory.Take(len(v) + valueBytes) {
		*vs.full = true
	}
	vs.all[v] = c
	vs.list = append(vs.list, c)
	return c
}

// Add adds n events to the count of value v. It copies v if it has to keep it.
func (vs *Values) Add(v []byte, n int64) {
	if n != 0 {
		vs.of(v).n += n
	}
}

// AddString is Add for a string, which it may keep.
func (vs *Values) AddString(v string, n int64) {
	c := vs.all[v]
	if c == nil {
		if n == 0 {
			return
		}
		c = vs.make(v)
	}
	c.n += n
}

// Append is AddString for a value that has not been added before, and that is only asked for by Each.
func (vs *Values) Append(v string, n int64) {
	if !vs.memory.Take(len(v) + valueBytes) {
		*vs.full = true
	}
	vs.list = append(vs.list, &valueCount{v: v, n: n})
}

// Each calls fn with each value that at least one event has, and with its count.
func (vs *Values) Each(fn func(v string, n int64)) {
	if vs == nil {
		return
	}
	for _, c := range vs.list {
		if c.n != 0 {
			fn(c.v, c.n)
		}
	}
}
