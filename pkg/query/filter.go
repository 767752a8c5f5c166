package query

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// filter is a Filter whose constants are parsed.
type filter struct {
	not  bool
	term *matchTerm
	need FieldSet
	test *FieldTest
	text []byte
	re   *regexp.Regexp // the test's
	expr *expr
	// argument says that the test is about an argument of an execve, which may stand there
	// in pieces.
	argument bool
	field    Field
	name     string // with term: the name of the records' fields that count, too; field is theirs

	number int64 // the test's Text, where it compares numbers

	scratch []byte
}

// compile reads a Filter. The error wraps ErrQuery.
func (f *Filter) compile() (*filter, error) {
	c := &filter{not: f.Not}
	given := 0
	if f.Term != nil {
		given++
		if err := f.Term.check(); err != nil {
			return nil, err
		}
		c.term = &matchTerm{}
		c.need = c.term.read(f.Term)
	}
	switch {
	case f.Field != nil && f.Term != nil:
		var ok bool
		c.name = f.Field.Name
		c.field, ok = FieldNamed(c.name)
		for _, field := range f.Term.Fields {
			ok = ok && (field == c.field || field == c.field.Name() && nameFields.Has(field))
		}
		if !ok {
			return nil, fmt.Errorf("%w: a term with the values of %q", ErrQuery, c.name)
		}
	case f.Field != nil:
		given++
		c.test, c.text = f.Field, []byte(f.Field.Text)
		c.argument = isArgument(f.Field.Name)
		switch f.Field.Op {
		case OpEqual, OpContains:
		case OpLess, OpLessEqual, OpGreater, OpGreaterEqual:
			if err := f.Field.Op.checkNumber(f.Field.Text); err != nil {
				return nil, err
			}
			c.number, _ = wholeNumber(c.text)
		case OpRegexp:
			re, err := regexp.Compile(f.Field.Text)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrQuery, err)
			}
			c.re = re
		default:
			return nil, fmt.Errorf("%w: comparison %d of a field", ErrQuery, f.Field.Op)
		}
	}
	if f.Expression != "" {
		given++
		e, err := parseExpr(f.Expression)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrQuery, err)
		}
		c.expr = e
	}
	if given != 1 {
		return nil, fmt.Errorf("%w: a filter of %d conditions", ErrQuery, given)
	}
	return c, nil
}

// match decides; m.x has read the fields that the filter needs.
func (f *filter) match(m *Matcher, ev *event.Event) bool {
	switch {
	case f.term != nil:
		return (f.term.match(&m.x.it) || f.name != "" && f.everywhere(ev)) != f.not
	case f.expr != nil:
		return f.expr.event(ev, &m.words) != f.not
	}
	for i := range ev.Records {
		if f.record(&ev.Records[i], &m.words) {
			return !f.not
		}
	}
	return f.argument && f.pieces(ev) != f.not || !f.argument && f.not
}

// record says whether the record has a field that satisfies the test.
func (f *filter) record(r *record.Record, w *words) bool {
	name := f.test.Name
	if name == "*" || name == "node" || name == "type" {
		if (name != "type" && r.Node != nil && f.holds(r.Node, false)) || name != "node" && f.holds(r.TypeName, false) {
			return true
		}
		if name != "*" {
			return false
		}
	}
	return f.fields(r, r.Fields(), w) || f.fields(r, r.MsgFields(), w) || f.fields(r, r.EnrichedFields(), nil)
}

// fields tests those of one part of a record, in words too unless w is nil.
func (f *filter) fields(r *record.Record, fields record.Fields, w *words) bool {
	any := f.test.Name == "*"
	for {
		v, ok := fields.Next()
		switch {
		case !ok:
			return false
		case !any && string(v.Name) != f.test.Name:
			continue
		case w != nil && string(v.Name) == "msg" && v.Quote != '"': // its fields come by themselves
			continue
		}
		kind := interpret.KindOf(r.Type, v.Name)
		value := v.Value
		switch kind {
		case interpret.Escaped, interpret.Key, interpret.Proctitle, interpret.Account:
			f.scratch = v.AppendDecoded(f.scratch[:0])
			value = f.scratch
		}
		if f.holds(value, isNumber(v)) {
			return true
		}
		if f.test.Words && w != nil && f.holds(w.of(r, v), false) {
			return true
		}
	}
}

// isNumber says whether a value is a number, which has to be compared whole: a 1
// is not part of 1000. Text is anything else.
func isNumber(f record.Field) bool {
	v := f.Value
	if len(v) > 1 && v[0] == '-' {
		v = v[1:]
	}
	if f.Quote != 0 || len(v) == 0 {
		return false
	}
	for _, c := range v {
		if c-'0' > 9 {
			return false
		}
	}
	return true
}

func (f *filter) holds(v []byte, number bool) bool {
	switch {
	case f.re != nil:
		return f.re.Match(v)
	case f.test.Op.compares():
		n, ok := wholeNumber(v)
		return ok && f.test.Op.holds(n, f.number)
	case f.test.Op == OpContains && !number:
		return bytes.Contains(v, f.text)
	}
	return bytes.Equal(v, f.text)
}

// literals are texts of which each is in one of an event's records if the filter
// holds.
func (f *filter) literals() []literal {
	switch {
	case f.not:
	case f.term != nil:
		if l, ok := literalOf(f.term); ok {
			return []literal{l}
		}
	case f.expr != nil:
		return f.expr.literals()
	case f.re == nil && !f.test.Words && !f.argument && !f.test.Op.compares() && len(f.text) > 0 && f.test.Name != "node" && f.test.Name != "*":
		return []literal{hexLiteral(f.text)}
	}
	return nil
}

// Needs returns conditions that every event which q finds satisfies, in a form that an
// index can answer. Events that q does not find may satisfy them too.
func (q *Query) Needs() []Term {
	out := slices.Clip(q.Terms)
	for i := range q.Filters {
		switch f := &q.Filters[i]; {
		case f.Not:
		case f.Term != nil && f.Field != nil:
			t := *f.Term
			t.Fields = slices.Clip(t.Fields)
			for _, field := range f.Term.Fields {
				t.Fields = append(t.Fields, field.Other())
			}
			out = append(out, t)
		case f.Term != nil:
			out = append(out, *f.Term)
		case f.Expression != "":
			e, err := parseExpr(f.Expression)
			if err != nil {
				continue
			}
			if types, ok := e.types(); ok {
				out = append(out, typesTerm(types))
			}
		}
	}
	return out
}

func typesTerm(types []uint32) Term {
	list := make([]string, len(types))
	for i, t := range types {
		list[i] = strconv.FormatUint(uint64(t), 10)
	}
	return Term{Fields: []Field{FieldType}, Op: OpRegexp, Text: "^(?:" + strings.Join(list, "|") + ")$"}
}
