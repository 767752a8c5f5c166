package query

import (
	"bytes"

	"github.com/auditfleet/auditfleet/pkg/record"
)

// glance is a test of an event's unparsed text: the text contains a field of a certain
// name with a certain number. Every event for which the term holds passes it. Where an
// index cannot separate the events, the test costs a fraction of parsing them.
type glance struct {
	names []string // with their '='
	cut   bool     // the number is cut to 32 bits
	n     int64
	// rootless says that an event may have the number although no record says it: a few
	// are uid 0's (kernelDefaults).
	rootless bool
}

// glanceOf makes a term's. It is for fields that are set from records only: a few
// have a number where no record says one (kernelDefaults).
func glanceOf(t *matchTerm) (g glance, ok bool) {
	if t.Op != OpEqual || len(t.Fields) != 1 || !t.numbers.Has(t.Fields[0]) {
		return g, false
	}
	f := t.Fields[0]
	g.n = t.number[f]
	switch f {
	case FieldPID:
		g.names = []string{"pid="}
	case FieldPPID:
		g.names = []string{"ppid="}
	case FieldExit:
		g.names = []string{"exit="}
	case FieldSyscall:
		g.names = []string{"syscall="}
	case FieldAUID:
		g.names, g.cut = []string{"auid=", "loginuid="}, true
	case FieldUID:
		g.names, g.cut = []string{"uid="}, true
		g.rootless = g.n == 0
	case FieldSession:
		g.names, g.cut = []string{"ses="}, true
	}
	return g, len(g.names) > 0 && (!g.cut || g.n != UnsetID)
}

// in says whether the text has such a field. The name may be the end of another one that has
// something else than a letter before it.
func (g *glance) in(text []byte) bool {
	for _, name := range g.names {
		for rest := text; ; {
			i := bytes.Index(rest, []byte(name))
			if i < 0 {
				break
			}
			inner := i > 0 && rest[i-1]-'a' < 26 // uid= of euid=
			rest = rest[i+len(name):]
			if inner {
				continue
			}
			if g.is(rest) {
				return true
			}
		}
	}
	return g.rootless && mayBeRootless(text)
}

// is says whether v, what stands behind a name, begins with the number.
func (g *glance) is(v []byte) bool {
	if len(v) > 0 && (v[0] == '"' || v[0] == '\'') {
		v = v[1:]
	}
	n, ok := record.Decimal(v)
	return ok && (n == g.n || g.cut && int64(uint32(n)) == g.n)
}

// mayBeRootless reports whether one of the records in text may be one of ClassKernel.
func mayBeRootless(text []byte) bool {
	for len(text) > 0 {
		line := text
		if i := bytes.IndexByte(text, '\n'); i >= 0 {
			line, text = text[:i], text[i+1:]
		} else {
			text = nil
		}
		if len(line) > 0 && ClassOf(record.TypeOf(line)) == ClassKernel {
			return true
		}
	}
	return false
}

// Looks returns what MayMatch looks for, or a part of it: a field of one of these names, each with its =, in front of which stands no
// letter a to z, and behind which something of which is says yes. Without names it is not as simple as that.
func (m *Matcher) Looks() (names []string, is func(value []byte) bool) {
	for i := range m.glances {
		if g := &m.glances[i]; !g.rootless {
			return g.names, g.is
		}
	}
	return nil, nil
}

// Seeker goes through a text for what Looks says. It is for one goroutine.
type Seeker struct {
	is    func(value []byte) bool
	names [][]byte
	next  []int // by name: where a field was found last, at or before which there is no other
}

// Seeker returns one for what the query looks for; nil where that is not as simple as Looks has it.
func (m *Matcher) Seeker() *Seeker {
	names, is := m.Looks()
	if len(names) == 0 {
		return nil
	}
	s := &Seeker{is: is, next: make([]int, len(names))}
	for _, n := range names {
		s.names = append(s.names, []byte(n))
	}
	return s
}

// Begin begins a text.
func (s *Seeker) Begin() {
	for i := range s.next {
		s.next[i] = -1
	}
}

// Next returns where the first field at or behind at stands whose value is what the query looks for; -1: there is none. at ascends.
func (s *Seeker) Next(text []byte, at int) int {
	first := -1
	for i, name := range s.names {
		if s.next[i] < at {
			s.next[i] = s.seek(text, name, at)
		}
		if n := s.next[i]; n < len(text) && (first < 0 || n < first) {
			first = n
		}
	}
	return first
}

// seek returns where a field of this name stands, len(text) where none does.
func (s *Seeker) seek(text, name []byte, at int) int {
	for {
		i := bytes.Index(text[at:], name)
		if i < 0 {
			return len(text)
		}
		i += at
		if at = i + len(name); (i == 0 || text[i-1]-'a' >= 26) && s.is(text[at:]) {
			return i
		}
	}
}

// MayMatch reports whether an event whose records are the lines of text can match the query. False
// is certain; true is not. It is much cheaper than parsing the event.
func (m *Matcher) MayMatch(text []byte) bool {
	for i := range m.glances {
		if !m.glances[i].in(text) {
			return false
		}
	}
	for i := range m.skim {
		if l := &m.skim[i]; !bytes.Contains(text, l.plain) && !bytes.Contains(text, l.hex) {
			return false
		}
	}
	return true
}
