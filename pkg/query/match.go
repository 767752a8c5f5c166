package query

import (
	"bytes"
	"encoding/hex"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/event"
)

// Matcher decides which events match one Query. It reuses its buffers from one event to
// the next, so one goroutine may use it. Several Matchers may share one Query, because
// matching only reads it.
type Matcher struct {
	q       *Query
	x       Extractor
	need    FieldSet
	types   map[uint32]bool
	terms   []matchTerm
	skim    []literal
	glances []glance // those of one name first
	// filters are decided last: they may cost most.
	filters []filter
	never   bool // a filter makes no sense
	// patterns says that some of the query's nodes are patterns.
	patterns bool
	words    words
}

// literal is a term's text in the two forms in which a matching record can contain it:
// plain, between quotes, and in the kernel's hex.
type literal struct{ plain, hex []byte }

// matchTerm is a Term whose constants are parsed.
type matchTerm struct {
	*Term
	text    []byte
	re      *regexp.Regexp   // OpRegexp's Text
	number  [NumFields]int64 // Text as a number of each field in numbers
	numbers FieldSet
	user    int64 // OpUser's Number
	hasUser bool
	limit   int64 // Text as a number that values are compared with
}

// NewMatcher returns a Matcher for q. The caller must not change q while the Matcher is
// in use.
func NewMatcher(q *Query) *Matcher {
	m := &Matcher{q: q, words: words{fleet: q.Fleet}, terms: make([]matchTerm, len(q.Terms)), patterns: slices.ContainsFunc(q.Nodes, IsPattern)}
	for i := range q.Terms {
		t := &m.terms[i]
		m.need |= t.read(&q.Terms[i])
		if l, ok := literalOf(t); ok {
			m.skim = append(m.skim, l)
		}
		if g, ok := glanceOf(t); ok {
			m.glances = append(m.glances, g)
		}
	}
	for i := range q.Filters {
		f, err := q.Filters[i].compile()
		if err != nil { // Check says so
			m.never = true
			continue
		}
		m.need |= f.need
		m.skim = append(m.skim, f.literals()...)
		if f.term != nil && !f.not {
			if g, ok := glanceOf(f.term); ok {
				m.glances = append(m.glances, g)
			}
		}
		m.filters = append(m.filters, *f)
	}
	slices.SortStableFunc(m.glances, func(a, b glance) int { return len(a.names) - len(b.names) })
	if len(q.Types) > 0 {
		m.types = make(map[uint32]bool, len(q.Types))
		for _, t := range q.Types {
			m.types[t] = true
		}
	}
	return m
}

// read takes a Term up and returns the fields it looks at.
func (t *matchTerm) read(from *Term) (need FieldSet) {
	t.Term, t.text = from, []byte(from.Text)
	for _, f := range t.Fields {
		if int(f) >= NumFields {
			continue
		}
		need |= 1 << f
		if n, ok := parseNumber(f, t.Text); ok && numeric.Has(f) {
			t.number[f] = n
			t.numbers |= 1 << f
		}
	}
	switch t.Op {
	case OpUser:
		t.user, t.hasUser = parseNumber(FieldUID, t.Number)
	case OpRegexp:
		t.re, _ = regexp.Compile(t.Text) // Check says what is wrong with it
	case OpLess, OpLessEqual, OpGreater, OpGreaterEqual:
		t.limit, _ = strconv.ParseInt(t.Text, 10, 64)
	}
	return need
}

// skimmed is the fields whose values stand in a record as they are, or in hex. An
// address is made from a socket's bytes, and a few terminals and programs out of
// nothing (kernelDefaults).
const skimmed FieldSet = 1<<FieldKey | 1<<FieldComm | 1<<FieldFile | 1<<FieldSubject | 1<<FieldObject | 1<<FieldAcct |
	1<<FieldUUID | 1<<FieldVM | 1<<FieldExe

func literalOf(t *matchTerm) (literal, bool) {
	if t.Op != OpContains && t.Op != OpEqual || len(t.text) == 0 {
		return literal{}, false
	}
	for _, f := range t.Fields {
		switch {
		case int(f) >= NumFields || !skimmed.Has(f):
			return literal{}, false
		case f == FieldExe && strings.Contains(noExe, t.Text):
			return literal{}, false
		case f == FieldFile && (strings.Contains(t.Text, "/.") || strings.HasSuffix(t.Text, "/")):
			return literal{}, false // may reach over where a working directory was joined to ./name
		}
	}
	return hexLiteral(t.text), true
}

func hexLiteral(text []byte) literal {
	return literal{text, []byte(strings.ToUpper(hex.EncodeToString(text)))}
}

func (l *literal) in(ev *event.Event) bool {
	for i := range ev.Records {
		if raw := ev.Records[i].Raw; bytes.Contains(raw, l.plain) || bytes.Contains(raw, l.hex) {
			return true
		}
	}
	return false
}

// Match reports whether ev matches the query.
func (m *Matcher) Match(ev *event.Event) bool {
	q := m.q
	if !q.Unparsable && (len(ev.Records) == 0 || !ev.Records[0].IsRecord()) {
		return false
	}
	if q.StartMs != 0 && ev.Ms < q.StartMs || q.EndMs != 0 && ev.Ms > q.EndMs {
		return false
	}
	if q.HasSerial && ev.Serial != q.Serial {
		return false
	}
	if len(q.Nodes) > 0 && !m.node(ev.Node) {
		return false
	}
	if !q.IsFrom(ev.From) || q.Mismatch && !ev.Mismatch() {
		return false
	}
	if m.types != nil && !m.typed(ev) {
		return false
	}
	if len(m.terms) == 0 && len(m.filters) == 0 {
		return !m.never
	}
	for i := range m.skim {
		if !m.skim[i].in(ev) {
			return false
		}
	}
	if m.need != 0 {
		m.x.read(ev, m.need)
	}
	for i := range m.terms {
		if !m.terms[i].match(&m.x.it) {
			return false
		}
	}
	m.words.host = ev.Node
	for i := range m.filters {
		if !m.filters[i].match(m, ev) {
			return false
		}
	}
	return !m.never
}

func (m *Matcher) node(node []byte) bool {
	if node == nil {
		return false
	}
	for _, n := range m.q.Nodes {
		if string(node) == n {
			return true
		}
	}
	if !m.patterns {
		return false
	}
	for _, n := range m.q.Nodes {
		if IsPattern(n) && Like(n, string(node)) {
			return true
		}
	}
	return false
}

func (m *Matcher) typed(ev *event.Event) bool {
	for i := range ev.Records {
		if t := ev.Records[i].Type; t != 0 && m.types[uint32(t)] {
			return true
		}
	}
	return false
}

// Typed reports whether the query accepts events with a record of type t, as far as types
// are concerned.
func (m *Matcher) Typed(t uint16) bool { return m.types == nil || t != 0 && m.types[uint32(t)] }

func (t *matchTerm) match(it *items) bool {
	for _, f := range t.Fields {
		if int(f) >= NumFields {
			continue
		}
		switch {
		case t.Op == OpUser && numeric.Has(f):
			// A name in the record decides; without one the number does, by
			// this machine's accounts.
			if it.set.Has(f) && !it.set.Has(f.Name()) && t.hasUser && it.nums[f] == t.user {
				return true
			}
		case t.Op == OpRegexp && numeric.Has(f):
			if it.set.Has(f) && t.value(appendNumber(nil, f, it.nums[f])) {
				return true
			}
		case numeric.Has(f):
			if it.set.Has(f) && t.numbers.Has(f) && t.Op.holds(it.nums[f], t.number[f]) {
				return true
			}
		case it.set.Has(f):
			if t.value(it.strs[f]) {
				return true
			}
		default:
			for _, v := range it.list(f) {
				if t.value(v) {
					return true
				}
			}
			if f == FieldFile && it.hasCWD && t.value(it.cwd) {
				return true
			}
		}
	}
	return false
}

func (t *matchTerm) value(v []byte) bool {
	switch t.Op {
	case OpContains:
		return bytes.Contains(v, t.text)
	case OpRegexp:
		return t.re != nil && t.re.Match(v)
	case OpLess, OpLessEqual, OpGreater, OpGreaterEqual:
		n, ok := wholeNumber(v)
		return ok && t.Op.holds(n, t.limit)
	}
	return bytes.Equal(v, t.text)
}
