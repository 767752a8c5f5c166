package query

import (
	"bytes"
	"cmp"
	"os"
	"slices"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/nss"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// words interprets values for the conditions that compare interpreted values. It looks
// accounts up only when the first such condition is evaluated.
type words struct {
	fleet bool   // ids are those of the event's host
	host  []byte // of the event that is matched
	in    *interpret.Interpreter
	buf   []byte
}

// FleetNames returns the names of users and groups for events of many hosts: this
// machine's for the events of this machine, which are known by its host name. Each call
// returns new ones.
func FleetNames() *interpret.Fleet {
	host, err := os.Hostname()
	if err != nil {
		host = "" // no event is known to be this machine's
	}
	return interpret.NewFleet(nss.New(nss.Config{}), host)
}

// of is a field's value in words, valid until the next call.
func (w *words) of(r *record.Record, f record.Field) []byte {
	if w.in == nil {
		var names interpret.Names = nss.New(nss.Config{})
		if w.fleet {
			names = FleetNames()
		}
		w.in = interpret.New(interpret.Config{Names: names, Escape: interpret.EscapeRaw})
	}
	w.in.Host(w.host)
	w.buf = w.in.AppendValue(w.buf[:0], r, f)
	return w.buf
}

// fieldNamed is the record's first field with that name: node and type, then its
// own, then those nested in msg='…'.
func fieldNamed(r *record.Record, name string) (record.Field, bool) {
	switch name {
	case "node":
		return record.Field{Value: r.Node}, r.Node != nil
	case "type":
		return record.Field{Value: r.TypeName}, len(r.TypeName) > 0
	}
	fields := r.Fields()
	nested := false
	for {
		f, ok := fields.Next()
		switch {
		case ok && string(f.Name) == "msg" && f.Quote != '"':
			if !nested {
				nested = true // a program's own words come after the kernel's
			}
		case ok && string(f.Name) == name:
			return f, true
		case !ok && nested:
			fields = r.MsgFields()
			for {
				f, ok := fields.Next()
				if !ok || string(f.Name) == name {
					return f, ok
				}
			}
		case !ok:
			return record.Field{}, false
		}
	}
}

// event says whether the expression is true of one of the event's records.
func (e *expr) event(ev *event.Event, w *words) bool {
	for i := range ev.Records {
		if e.record(ev, &ev.Records[i], w) {
			return true
		}
	}
	return false
}

// record says whether it is true of one record.
func (e *expr) record(ev *event.Event, r *record.Record, w *words) bool {
	switch e.kind {
	case exprAnd:
		return !slices.ContainsFunc(e.args, func(a *expr) bool { return !a.record(ev, r, w) })
	case exprOr:
		return slices.ContainsFunc(e.args, func(a *expr) bool { return a.record(ev, r, w) })
	case exprNot:
		return !e.args[0].record(ev, r, w)
	case exprRegexp:
		text := r.Raw
		if r.Enriched != nil { // no part of the record, as the kernel sent it
			text = text[:len(text)-len(r.Enriched)-1]
		}
		return e.re.Match(text)
	case exprType:
		return e.op >= opLess && e.op.holds(cmp.Compare(typeNumber(r), e.typ))
	case exprTime:
		if e.op < opLess {
			return false
		}
		c := cmp.Compare(ev.Ms, e.ms)
		if c == 0 && e.hasSerial {
			c = cmp.Compare(ev.Serial, e.serial)
		}
		return e.op.holds(c)
	}
	f, ok := fieldNamed(r, e.name)
	if !ok {
		return false
	}
	switch e.op {
	case opRaw:
		return isRaw(f, e.text)
	case opRawNot:
		return !isRaw(f, e.text)
	case opWords, opWordsNot:
	default:
		return e.compares(f)
	}
	value := f.Value
	if f.Name != nil {
		value = w.of(r, f)
	}
	return (string(value) == e.text) == (e.op == opWords)
}

// compares says whether a field's number is as the expression wants it. An id is read as
// everywhere else: -1 is 4294967295.
func (e *expr) compares(f record.Field) bool {
	value := f.Value
	if e.named {
		var b [20]byte
		value = appendNormal(b[:0], e.field, f)
	}
	n, ok := wholeNumber(value)
	return ok && e.op.holds(cmp.Compare(n, e.number))
}

// typeNumber is a record's type, 0 when it has none.
func typeNumber(r *record.Record) uint32 { return uint32(r.Type) }

// isRaw says whether a field's value stands in the record like that, with quotes
// if it has any.
func isRaw(f record.Field, text string) bool {
	if f.Quote == 0 {
		return string(f.Value) == text
	}
	n := len(text)
	return n == len(f.Value)+2 && text[0] == f.Quote && text[n-1] == f.Quote && text[1:n-1] == string(f.Value)
}

// holds says whether a comparison's outcome is what the operator asks for.
func (op exprOp) holds(c int) bool {
	switch op {
	case opLess:
		return c < 0
	case opLessEqual:
		return c <= 0
	case opSame:
		return c == 0
	case opGreater:
		return c > 0
	case opGreaterEqual:
		return c >= 0
	default:
		return c != 0
	}
}

// What follows is what an index and a search for bytes can know of an expression:
// conditions that an event meets if it is true of one of its records.

// types are the record types of which one must be there; false when it can be any.
func (e *expr) types() ([]uint32, bool) {
	switch e.kind {
	case exprType:
		return []uint32{e.typ}, e.op == opSame
	case exprField:
		if e.name != "type" || e.op != opRaw && e.op != opWords {
			return nil, false
		}
		n, ok := tables.TypeByName([]byte(e.text))
		return []uint32{uint32(n)}, ok
	case exprAnd:
		for _, a := range e.args {
			if list, ok := a.types(); ok {
				return list, true
			}
		}
	case exprOr:
		var all []uint32
		for _, a := range e.args {
			list, ok := a.types()
			if !ok {
				return nil, false
			}
			all = append(all, list...)
		}
		return all, true
	}
	return nil, false
}

// times bounds the event's time, both inclusive; 0 is open.
func (e *expr) times() (from, to int64) {
	switch e.kind {
	case exprTime:
		switch e.op {
		case opSame:
			return e.ms, e.ms
		case opLess, opLessEqual:
			return 0, e.ms
		case opGreater, opGreaterEqual:
			return e.ms, 0
		}
	case exprAnd:
		for _, a := range e.args {
			f, t := a.times()
			from = max(from, f)
			if t != 0 && (to == 0 || t < to) {
				to = t
			}
		}
	case exprOr:
		for i, a := range e.args {
			f, t := a.times()
			if i == 0 {
				from, to = f, t
				continue
			}
			from = min(from, f)
			if to != 0 && t != 0 {
				to = max(to, t)
			} else {
				to = 0
			}
		}
	}
	return from, to
}

// literals are texts that one of the event's records must have in it.
func (e *expr) literals() []literal {
	switch e.kind {
	case exprField:
		if e.op == opRaw && e.text != "" && e.name != "node" && e.name != "type" {
			return []literal{plainLiteral(e.text)}
		}
	case exprRegexp:
		// Only the regexps' own words; a prefix is what the library tells.
		if text, whole := e.re.LiteralPrefix(); whole && text != "" {
			return []literal{plainLiteral(text)}
		}
	case exprAnd:
		var out []literal
		for _, a := range e.args {
			out = append(out, a.literals()...)
		}
		return out
	}
	return nil
}

// plainLiteral is a text that cannot stand in hex.
func plainLiteral(text string) literal {
	b := bytes.Clone([]byte(text))
	return literal{plain: b, hex: b}
}
