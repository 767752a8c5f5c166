package query

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// everywhere says whether a field called f.name of any record satisfies the term, or, where
// the term is about names as well, the name that the record's enriched tail has for it.
func (f *filter) everywhere(ev *event.Event) bool {
	t := f.term
	number, name := false, false
	for _, field := range t.Fields {
		number, name = number || field == f.field, name || field != f.field
	}
	for i := range ev.Records {
		r := &ev.Records[i]
		said := false
		if name && r.Enriched != nil {
			fields := r.EnrichedFields()
			for v, ok := fields.Next(); ok; v, ok = fields.Next() {
				if len(v.Name) != len(f.name) || !bytes.EqualFold(v.Name, []byte(f.name)) {
					continue
				}
				said = true
				if f.scratch = v.AppendDecoded(f.scratch[:0]); t.value(f.scratch) {
					return true
				}
			}
		}
		if !number || t.Op == OpUser && said {
			continue // the record's own word counts, not what the number is here
		}
		if f.among(r.Fields()) || f.among(r.MsgFields()) {
			return true
		}
	}
	return false
}

// among says whether one of some fields satisfies the term.
func (f *filter) among(fields record.Fields) bool {
	t := f.term
	for v, ok := fields.Next(); ok; v, ok = fields.Next() {
		if string(v.Name) != f.name {
			continue
		}
		f.scratch = appendNormal(f.scratch[:0], f.field, v)
		for one, rest, more := cutValue(f.field, f.scratch); ; one, rest, more = cutValue(f.field, rest) {
			if t.Op == OpUser && t.Number != "" && string(one) == t.Number || t.Op != OpUser && t.value(one) {
				return true
			}
			if !more {
				break
			}
		}
	}
	return false
}

// isArgument says whether name is that of an argument of an execve: a0, a1 and so on.
func isArgument(name string) bool {
	digits, ok := strings.CutPrefix(name, "a")
	return ok && digits != "" && strings.Trim(digits, "0123456789") == ""
}

// pieces says whether an argument that the kernel wrote in pieces satisfies the test. One
// that is too long for a record is a1_len=9000 a1[0]=… a1[1]=…, in as many EXECVE records
// as it takes.
func (f *filter) pieces(ev *event.Event) bool {
	f.scratch = f.scratch[:0]
	n := 0
	for i := range ev.Records {
		r := &ev.Records[i]
		if r.Type != tables.Execve {
			continue
		}
		fields := r.Fields()
		for v, ok := fields.Next(); ok; v, ok = fields.Next() {
			rest, ok := bytes.CutPrefix(v.Name, []byte(f.test.Name))
			if !ok || len(rest) < 3 || rest[0] != '[' || rest[len(rest)-1] != ']' {
				continue
			}
			if _, err := strconv.ParseUint(string(rest[1:len(rest)-1]), 10, 32); err != nil {
				continue
			}
			f.scratch = v.AppendDecoded(f.scratch)
			n++
		}
	}
	return n > 0 && f.holds(f.scratch, false)
}
