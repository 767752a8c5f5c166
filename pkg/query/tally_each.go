package query

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/event"
)

// Between the values of a combination, each as AppendEach has it, and in place of one that an event does not have. An empty value is
// another combination.
const (
	EachSeparator = "\x00"
	EachAbsent    = "\x01"
)

// eachEscape comes before a byte of a value that is less than 4, which is 64 more there.
const eachEscape = 3

// AppendEach appends a value as a combination has it: without a byte less than 4 but eachEscape, whatever bytes it has, and so neither
// EachSeparator nor EachAbsent. Whoever marks values has the byte 2 for that.
func AppendEach[T []byte | string](dst []byte, v T) []byte {
	from := 0 // what is not appended yet: nearly always all of it
	for i := range len(v) {
		if b := v[i]; b <= eachEscape {
			dst = append(append(dst, v[from:i]...), eachEscape, b+64)
			from = i + 1
		}
	}
	return append(dst, v[from:]...)
}

// EachValue is the reverse of AppendEach.
func EachValue(text string) string {
	if strings.IndexByte(text, eachEscape) < 0 {
		return text
	}
	v := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		if b := text[i]; b != eachEscape || i+1 == len(text) {
			v = append(v, b)
		} else {
			i++
			v = append(v, text[i]-64)
		}
	}
	return string(v)
}

// combining makes combinations, the values of FieldEach: of an event, its value of each field that the tally was asked for but FieldEach and
// FieldUnnamed, in their order, with EachSeparator between them. An event that has several values of a field has several
// combinations, each once, and one that has none EachAbsent.
type combining struct {
	of      []Field // in the order of the combination
	need    FieldSet
	places  [NumIndexed][]int // by field: where it stands
	values  [][][]byte        // of the present event, by place
	text    []byte
	key     []byte
	x       Extractor
	indexed Field // of which an index has the values, where there is one such field; FieldEach where there is none
	read    bool  // an index does not suffice: there are more, or an event may have several values
}

func newCombining(fields []Field) *combining {
	c := &combining{indexed: FieldEach}
	for _, f := range fields {
		if f == FieldEach || f == FieldUnnamed {
			continue
		}
		c.places[f] = append(c.places[f], len(c.of))
		c.of = append(c.of, f)
		if f >= FieldNode && f <= FieldHour {
			continue
		}
		c.read = c.read || c.indexed != FieldEach || f.IsList() || f == FieldType
		c.indexed = f
		if int(f) < NumFields {
			c.need |= 1 << f
		}
	}
	c.values = make([][][]byte, len(c.of))
	return c
}

// Combines reports whether the tally counts combinations.
func (t *Tally) Combines() bool { return t.each != nil }

// Combined returns the field of whose values by place the combinations are made, FieldEach where they have places only. ok says that
// this suffices: there is one such field at most, and an event has one value of it at most.
func (t *Tally) Combined() (f Field, ok bool) { return t.each.indexed, !t.each.read }

// AddAt counts n events of one host and time that have a value of the field Combined, and AddWithout those that have none.
func (t *Tally) AddAt(host string, ms int64, value []byte, n int64) {
	t.AddValues(host, ms, n, func(keep func(Field, []byte)) { keep(t.each.indexed, value) })
}

func (t *Tally) AddWithout(host string, ms, n int64) {
	t.AddValues(host, ms, n, func(func(Field, []byte)) {})
}

// AddValues counts n events that are alike, with the values that each calls its function with.
func (t *Tally) AddValues(host string, ms, n int64, each func(func(f Field, value []byte))) {
	c := t.each
	c.begin()
	c.place(host, ms)
	each(c.keep)
	c.count(t.fields[FieldEach], n)
}

// combine counts the combinations of an event n times.
func (t *Tally) combine(ev *event.Event, n int64) {
	c := t.each
	c.begin()
	c.place(string(ev.Node), ev.Ms)
	c.x.ExtractOnly(ev, c.need, c.keep)
	c.count(t.fields[FieldEach], n)
}

func (c *combining) begin() {
	for i := range c.values {
		c.values[i] = c.values[i][:0]
	}
	c.text = c.text[:0]
}

// place keeps an event's host and time.
func (c *combining) place(host string, ms int64) {
	for _, i := range c.places[FieldNode] {
		if host != "" {
			c.values[i] = append(c.values[i], []byte(host))
		}
	}
	for _, u := range units {
		for _, i := range c.places[u.field] {
			c.values[i] = append(c.values[i], strconv.AppendInt(nil, ms/u.ms, 10))
		}
	}
}

// keep keeps a value of a field that is asked for, once.
func (c *combining) keep(f Field, v []byte) {
next:
	for _, i := range c.places[f] {
		for _, have := range c.values[i] {
			if bytes.Equal(have, v) {
				continue next
			}
		}
		start := len(c.text)
		c.text = append(c.text, v...)
		c.values[i] = append(c.values[i], c.text[start:len(c.text):len(c.text)])
	}
}

// count counts the present event's combinations.
func (c *combining) count(to *Values, n int64) {
	c.key = c.key[:0]
	c.countFrom(0, to, n)
}

func (c *combining) countFrom(i int, to *Values, n int64) {
	if *to.full { // an event may have very many combinations
		return
	}
	if i == len(c.values) {
		to.Add(c.key, n)
		return
	}
	if i > 0 {
		c.key = append(c.key, EachSeparator...)
	}
	key := c.key
	if len(c.values[i]) == 0 {
		c.key = append(key, EachAbsent...)
		c.countFrom(i+1, to, n)
	}
	for _, v := range c.values[i] {
		c.key = AppendEach(key, v)
		c.countFrom(i+1, to, n)
	}
	c.key = key
}
