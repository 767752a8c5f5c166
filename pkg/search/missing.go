package search

import (
	"maps"
	"slices"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/nearest"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// missing is one name that a query asks for, and whether a record has it.
type missing struct {
	fields []query.Field // none: it is a host
	term   query.Term    // that asks for it; of a host none
	is     func(v []byte) bool
	text   string
	what   string // "no record …" before text
	seen   bool
	// claimed says of a host that records use its name which are kept under another's.
	claimed bool
}

// Missing finds out which of the names that a query asks for no record has: hosts, keys,
// programs, commands, accounts and groups. The caller tells it the names that there are,
// and asks for notes on the others. One goroutine may use it.
type Missing struct {
	names []*missing
	known map[query.Field]map[string]bool // FieldType stands for hosts
	n     int                             // of known
}

// mostKnown is how many different names are kept to find the one that was meant. Of more,
// only whether they are those asked for is looked at.
const mostKnown = 20_000

// hosts is where known has the names of hosts: no name is a record's type.
const hosts = query.FieldType

// what says how a name is spoken of: as it is, and as a pattern.
type what struct{ name, like string }

var (
	aHost     = what{"is of a host called", "is of a host like"}
	aKey      = what{"has the key", "has a key like"}
	anAccount = what{"is of the account", "is of an account like"}
	aGroup    = what{"is of the group", "is of a group like"}
)

// whatOf says what a name in a field is of.
var whatOf = map[query.Field]what{
	query.FieldKey: aKey, query.FieldExe: {"is of a program called", "is of a program like"}, query.FieldComm: {"is of a command called", "is of a command like"},
	query.FieldAUIDName: anAccount, query.FieldUIDName: anAccount, query.FieldEUIDName: anAccount,
	query.FieldGIDName: aGroup, query.FieldEGIDName: aGroup,
}

// MissingOf returns the Missing of a query; nil where it asks for no names.
func MissingOf(q *query.Query) *Missing {
	m := &Missing{known: map[query.Field]map[string]bool{}}
	for _, want := range q.Nodes {
		if strings.Contains(want, ",") { // its parts are wanted, too: see NodesOf
			continue
		}
		what := aHost.name
		if query.IsPattern(want) {
			what = aHost.like
		}
		m.add(&missing{text: want, what: what, is: func(v []byte) bool { return query.NodeIs(want, string(v)) }})
	}
	for i := range q.Terms {
		m.term(&q.Terms[i])
	}
	for i := range q.Filters {
		if f := &q.Filters[i]; f.Term != nil && !f.Not {
			m.term(f.Term)
		}
	}
	if len(m.names) == 0 {
		return nil
	}
	return m
}

func (m *Missing) add(w *missing) {
	m.names = append(m.names, w)
	for _, f := range w.fields {
		m.known[f] = map[string]bool{}
	}
	if len(w.fields) == 0 {
		m.known[hosts] = map[string]bool{}
	}
}

// term adds the name that a condition asks for, if it asks for one.
func (m *Missing) term(t *query.Term) {
	w := &missing{text: t.Text, is: t.Values(), term: *t}
	for _, f := range t.Fields {
		what, ok := whatOf[f]
		switch {
		case f == query.FieldExe && w.is([]byte("(null)")): // which an index has where no record says it
			return
		case ok:
			w.what = what.name
			if t.Op == query.OpRegexp {
				w.what = what.like
			}
		case t.Op != query.OpUser: // where the name is a number here, and records have no names
			return
		}
		w.fields = append(w.fields, f)
	}
	if w.what != "" && t.Text != "" {
		m.add(w)
	}
}

// Fields returns the fields of which names are still to be told, without hosts.
func (m *Missing) Fields() (fields []query.Field) {
	for _, w := range m.names {
		if !w.seen {
			fields = append(fields, w.fields...)
		}
	}
	return fields
}

// Filters returns conditions of which one at least holds for an event with a name that is still to be told, without hosts: any record's field counts.
func (m *Missing) Filters() (filters []query.Filter) {
	for _, w := range m.names {
		if w.seen {
			continue
		}
		for _, f := range w.fields {
			t := w.term
			t.Fields = []query.Field{f}
			name, _ := strings.CutSuffix(f.String(), "-name")
			filters = append(filters, query.Filter{Term: &t, Field: &query.FieldTest{Name: name}})
		}
	}
	return filters
}

// Host tells of a host that records are of, Value of the value of a field.
func (m *Missing) Host(name []byte) { m.value(hosts, name) }

// MissingHosts returns the hosts that were asked for and not told, by name or pattern.
func (m *Missing) MissingHosts() (names []string) {
	for _, w := range m.names {
		if len(w.fields) == 0 && !w.seen {
			names = append(names, w.text)
		}
	}
	return names
}

// Claim tells of a name that records claim which are kept under the name of whoever sent them.
func (m *Missing) Claim(name []byte) {
	for _, w := range m.names {
		if len(w.fields) == 0 && !w.seen && w.is(name) {
			w.claimed = true
		}
	}
}

// Value tells of a value that a record has in field f, or in another field of its name
// (query.Field.Other).
func (m *Missing) Value(f query.Field, v []byte) {
	if f.IsOther() {
		f -= query.Field(0).Other()
	}
	if f != hosts {
		m.value(f, v)
	}
}

func (m *Missing) value(f query.Field, v []byte) {
	have, wanted := m.known[f]
	if !wanted || have[string(v)] {
		return
	}
	if m.n < mostKnown {
		have[string(v)] = true
		m.n++
	}
	for _, w := range m.names {
		if !w.seen && w.in(f) && w.is(v) {
			w.seen = true
		}
	}
}

// in says whether values of field f are such names.
func (w *missing) in(f query.Field) bool {
	return f == hosts && len(w.fields) == 0 || slices.Contains(w.fields, f)
}

// Done reports whether every name has been told.
func (m *Missing) Done() bool {
	for _, w := range m.names {
		if !w.seen {
			return false
		}
	}
	return true
}

// Notes returns a note for each name that was not told, with the nearest ones that were.
func (m *Missing) Notes() (notes []string) {
	for _, w := range m.names {
		if w.seen {
			continue
		}
		if w.claimed {
			notes = append(notes, terminal.Clean("NOTE - no record "+w.what+" "+w.text+", but some claim to be, and are kept under who sent them: --mismatch without -n shows these"))
			continue
		}
		var names []string
		for f, known := range m.known {
			if _, isName := whatOf[f]; w.in(f) && (f == hosts || isName) {
				names = slices.AppendSeq(names, maps.Keys(known))
			}
		}
		names = slices.DeleteFunc(names, isNone)
		slices.Sort(names)
		// The names are what others chose.
		notes = append(notes, terminal.Clean("NOTE - no record "+w.what+" "+w.text+nearest.Hint(w.text, slices.Compact(names))))
	}
	return notes
}

// isNone says whether a value stands for there being none: "(null)", "?".
func isNone(v string) bool { return v == "" || v == "?" || v[0] == '(' && v[len(v)-1] == ')' }
