package search

import (
	"bytes"
	"strconv"
)

// hits is a set of a prefilter's conditions.
type hits uint8

const (
	hitText hits = 1 << iota
	hitType
)

// prefilter finds, by a search for bytes, the lines without which an event cannot
// be what a query asks for: most of a log is passed over without being parsed.
// It may let through too much, never too little.
type prefilter struct {
	need  hits
	texts [][]byte // a line with one of them has hitText
	types map[uint32]bool
}

// minText is the shortest text worth looking for: shorter ones are everywhere.
const minText = 3

// newPrefilter makes one for a query; nil lets everything through.
func newPrefilter(q *Query) *prefilter {
	f := &prefilter{}
	if q == nil {
		return f
	}
	m := NewMatcher(q)
	if m.types != nil {
		f.types = m.types
		f.need |= hitType
	}
	// The longest text is likely to be the rarest.
	longest := minText - 1
	for i := range m.skim {
		if l := &m.skim[i]; len(l.plain) > longest {
			longest = len(l.plain)
			f.texts = [][]byte{l.plain, l.hex}
		}
	}
	for i := range m.terms {
		if text, ok := numberText(&m.terms[i]); ok && len(text) > longest {
			longest = len(text)
			f.texts = [][]byte{text}
		}
	}
	if f.texts != nil {
		f.need |= hitText
	}
	return f
}

// numberText is the digits that a record must have in it for a term about a
// number to hold. It is for fields that are read as they are; those that are cut
// to 32 bits can be written in other digits.
func numberText(t *matchTerm) ([]byte, bool) {
	if t.Op != OpEqual || len(t.Fields) != 1 {
		return nil, false
	}
	f := t.Fields[0]
	if f != FieldPID && f != FieldPPID && f != FieldExit || !t.numbers.has(f) {
		return nil, false
	}
	n := t.number[f]
	if n < 0 {
		n = -n
	}
	return strconv.AppendInt(nil, n, 10), n >= 0
}

func (f *prefilter) byType() bool { return f.types != nil }

// ofType is what a record of that type meets.
func (f *prefilter) ofType(typ uint16) hits {
	if f.types != nil && typ != 0 && f.types[uint32(typ)] {
		return hitType
	}
	return 0
}

// mark finds the texts in a chunk's runs.
func (f *prefilter) mark(c *chunk) {
	for _, text := range f.texts {
		next := 0 // run
		for pos := 0; next < len(c.runs); {
			i := bytes.Index(c.data[pos:], text)
			if i < 0 {
				break
			}
			pos += i
			for next < len(c.runs) && c.end(&c.runs[next]) <= pos {
				next++
			}
			if next == len(c.runs) {
				break
			}
			// Between the lines of a run there are only their newlines, and lines
			// that were passed over.
			if r := &c.runs[next]; pos >= int(c.lines[r.first].off) {
				r.hits |= hitText
				pos = c.end(r)
				next++
			} else {
				pos = int(c.lines[r.first].off)
			}
		}
	}
}

// end is where a run ends in the data.
func (c *chunk) end(r *run) int {
	l := c.lines[r.first+r.n-1]
	return int(l.off + l.size)
}
