package output

import (
	"bytes"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// textFormat writes an English sentence for each event.
type textFormat struct {
	told
	scratch []byte
}

func newTextFormat(o *Config, loc *time.Location) *textFormat {
	return &textFormat{told: newTold(o, loc)}
}

func (*textFormat) Head(dst []byte) []byte { return dst }

func (f *textFormat) Append(dst []byte, ev *event.Event) []byte {
	f.clock(ev, "%H:%M:%S "+f.date)
	f.each(ev, func(records []record.Record) { dst = f.line(dst, ev, records) })
	return dst
}

// unset is the id that was never set.
const unset = 1<<32 - 1

func (f *textFormat) line(dst []byte, ev *event.Event, records []record.Record) []byte {
	n := f.norm
	n.Event(records, false)
	if ev.Node != nil {
		dst = append(n.AppendNode(append(dst, "On "...), ev.Node), " at "...)
	} else {
		dst = append(dst, "At "...)
	}
	dst = append(append(dst, f.stamp...), ' ')
	if n.Has(n.Subject) {
		dst = appendSubject(dst, n)
		id, _ := n.ID(n.Subject) // what is no id is printed, but for where both are none
		if as, _ := n.ID(n.Alias); n.Has(n.Alias) && as != unset && as != id {
			dst = append(n.AppendText(append(dst, ", acting as "...), n.Alias), ',')
		}
	}
	dst = append(dst, ' ')
	if success, ok := n.Succeeded(); ok && success {
		dst = append(dst, "successfully "...)
	} else if ok {
		dst = append(dst, "unsuccessfully "...)
	}
	dst = append(appendAction(dst, n), ' ')
	if f.scratch = n.AppendProcesses(f.scratch[:0]); len(f.scratch) > 0 {
		dst = append(append(append(dst, '('), f.scratch...), ") "...)
	}
	if n.Has(n.Object) {
		dst = append(f.appendTextObject(dst, records), ' ')
	}
	if n.Has(n.Second) {
		dst = append(n.AppendFull(append(dst, "to "...), n.Second), ' ')
	}
	if n.How != nil && len(n.Action) > 0 && n.Action[0] != 'e' { // one ends a session by no means
		dst = append(append(dst, "using "...), n.How...)
	}
	return append(dst, '\n')
}

// appendTextObject appends the object, of a socket's address only the part that
// matters.
func (f *textFormat) appendTextObject(dst []byte, records []record.Record) []byte {
	n := f.norm
	if n.Is(n.Object) == interpret.SockAddr {
		f.scratch = n.AppendText(f.scratch[:0], n.Object)
		for _, name := range [...]string{"laddr=", "fam="} {
			if part, ok := between(f.scratch, name); ok {
				return append(dst, part...)
			}
		}
		return append(dst, f.scratch...)
	}
	if records[0].Type == tables.ConfigChange && namesSetting(n.Action) {
		return append(dst, n.Name(n.Object)...)
	}
	return n.AppendFull(dst, n.Object)
}

// between returns what stands in text between name and the next space.
func between(text []byte, name string) ([]byte, bool) {
	i := bytes.Index(text, []byte(name))
	if i < 0 {
		return nil, false
	}
	text = text[i+len(name):]
	if i = bytes.IndexByte(text, ' '); i < 0 {
		return nil, false
	}
	return text[:i], true
}
