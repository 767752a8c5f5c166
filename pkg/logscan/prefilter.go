package logscan

import (
	"bytes"

	"github.com/auditfleet/auditfleet/pkg/query"
)

// hits is a set of a prefilter's conditions, one bit each.
type hits uint8

const (
	hitText hits = 1 << iota
	hitType
)

// prefilter searches for bytes without which an event cannot match the query, so that
// most of a log is skipped without parsing. It may let through an event that does not
// match; it never rejects one that does.
type prefilter struct {
	need  hits
	texts [][]byte // a line with one of them has hitText
	types map[uint32]bool
}

// newPrefilter makes one for a query; nil lets everything through.
func newPrefilter(q *query.Query) *prefilter {
	f := &prefilter{}
	if q == nil {
		return f
	}
	f.types, f.texts = query.NewMatcher(q).Clues()
	if f.types != nil {
		f.need |= hitType
	}
	if f.texts != nil {
		f.need |= hitText
	}
	return f
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
