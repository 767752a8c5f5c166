package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// An event's text is how its records lie in memory and, compressed, in blocks:
//
//	plain:   each record followed by a newline, then one more newline
//	counted: the number of records, then each one's length and bytes (uvarints)
//
// Plain costs next to nothing once compressed, and boundaries are found by a
// byte search. It cannot hold an empty record or one with a newline in it; an
// event that has one is counted. A block is wholly of one kind.

// ErrText is returned for bytes that no event's text begins with: it has no end, or a
// count or length reaches beyond them.
var ErrText = errors.New("malformed event text")

// plainText says whether an event's records can be written plain.
func plainText(ev *event.Event) bool {
	for i := range ev.Records {
		raw := ev.Records[i].Raw
		if len(raw) == 0 || bytes.IndexByte(raw, '\n') >= 0 {
			return false
		}
	}
	return true
}

// textSize is an upper bound of the size of the event's text, in either form.
func textSize(ev *event.Event) int {
	n := 1
	for i := range ev.Records {
		n += len(ev.Records[i].Raw) + 5
	}
	return n + 4
}

// AppendText appends an event's text and says whether it is counted.
func AppendText(dst []byte, ev *event.Event) ([]byte, bool) {
	if plainText(ev) {
		for i := range ev.Records {
			dst = append(dst, ev.Records[i].Raw...)
			dst = append(dst, '\n')
		}
		return append(dst, '\n'), false
	}
	dst = binary.AppendUvarint(dst, uint64(len(ev.Records)))
	for i := range ev.Records {
		dst = binary.AppendUvarint(dst, uint64(len(ev.Records[i].Raw)))
		dst = append(dst, ev.Records[i].Raw...)
	}
	return dst, true
}

// CutText splits the first event's text off b, by the form of b's block. Both results
// are parts of b. Errors: ErrText.
func CutText(b []byte, counted bool) (text, rest []byte, err error) {
	if !counted {
		// Records are not empty, so the first empty line ends the event.
		i := bytes.Index(b, []byte("\n\n"))
		if i < 1 {
			return nil, nil, fmt.Errorf("%w: no end within %d bytes", ErrText, len(b))
		}
		return b[: i+2 : i+2], b[i+2:], nil
	}
	n, at := binary.Uvarint(b)
	if at <= 0 || n > uint64(len(b)) {
		return nil, nil, fmt.Errorf("%w: %d records in %d bytes", ErrText, n, len(b))
	}
	for ; n > 0; n-- {
		size, k := binary.Uvarint(b[at:])
		if k <= 0 || size > uint64(len(b)-at-k) {
			return nil, nil, fmt.Errorf("%w: a record of %d bytes in %d", ErrText, size, len(b)-at)
		}
		at += k + int(size)
	}
	return b[:at:at], b[at:], nil
}

// records calls fn with each record of an event's text, which must be as CutText returned
// it. raw is a part of text.
func records(text []byte, counted bool, fn func(raw []byte)) {
	anyRecord(text, counted, func(raw []byte) bool {
		fn(raw)
		return false
	})
}

// anyRecord reports whether is says yes to a record of an event's text, which must be as CutText
// returned it.
func anyRecord(text []byte, counted bool, is func(raw []byte) bool) bool {
	if !counted {
		for len(text) > 1 {
			i := bytes.IndexByte(text, '\n')
			if i <= 0 {
				return false
			}
			if is(text[:i:i]) {
				return true
			}
			text = text[i+1:]
		}
		return false
	}
	n, at := binary.Uvarint(text)
	if at <= 0 {
		return false
	}
	for ; n > 0; n-- {
		size, k := binary.Uvarint(text[at:])
		if k <= 0 || size > uint64(len(text)-at-k) {
			return false
		}
		at += k
		if is(text[at : at+int(size) : at+int(size)]) {
			return true
		}
		at += int(size)
	}
	return false
}

// FirstMs returns the time of an event's first record, by which the event goes; 0 where it has none.
func FirstMs(text []byte, counted bool) int64 {
	var r record.Record
	firstRecord(&r, text, counted)
	return r.Ms()
}

// Stamp reads an event's time and serial, which are its first record's, and whether that is a record
// at all (record.Record.IsRecord).
func Stamp(text []byte, counted bool) (ms int64, serial uint64, is bool) {
	var r record.Record
	firstRecord(&r, text, counted)
	return r.Ms(), r.Serial, r.IsRecord()
}

// StampOf is Stamp, and reports whether want says yes to the type of one of the event's records.
func StampOf(text []byte, counted bool, want func(uint16) bool) (ms int64, serial uint64, is, has bool) {
	var r record.Record
	firstRecord(&r, text, counted)
	return r.Ms(), r.Serial, r.IsRecord(), want(r.Type) || HasType(text, counted, want)
}

// HasType reports whether want says yes to the type of one of an event's records.
func HasType(text []byte, counted bool, want func(uint16) bool) bool {
	return anyRecord(text, counted, func(raw []byte) bool { return want(record.TypeOf(raw)) })
}

// firstRecord parses an event's first record, by which the event goes; nothing where it has none.
func firstRecord(r *record.Record, text []byte, counted bool) {
	raw := text
	if !counted {
		raw = text[:max(0, bytes.IndexByte(text, '\n'))]
	} else if n, at := binary.Uvarint(text); at <= 0 || n == 0 {
		raw = nil
	} else if size, k := binary.Uvarint(text[at:]); k > 0 && size <= uint64(len(text)-at-k) {
		raw = text[at+k : at+k+int(size)]
	}
	_ = r.Parse(raw) // as ParseRecord does
}

// EventAt returns where the event of a block's text, of plain form, begins and ends in which at lies: in text[from:], which begins with an event.
// Errors: ErrText.
func EventAt(text []byte, from, at int) (begin, end int, err error) {
	for begin = at; begin > from; {
		i := bytes.LastIndexByte(text[from:begin], '\n')
		if begin = from + max(i, 0); i > 0 && text[begin-1] == '\n' {
			begin++
			break
		}
	}
	i := bytes.Index(text[at:], []byte("\n\n"))
	if i < 0 {
		return 0, 0, fmt.Errorf("%w: no end within %d bytes", ErrText, len(text)-at)
	}
	return begin, at + i + 2, nil
}

// countRecords returns how many records an event's text holds. Of a counted text it is
// what the text claims, at most its bytes: a record takes at least one.
func countRecords(text []byte, counted bool) int {
	if !counted {
		return bytes.Count(text, []byte{'\n'}) - 1
	}
	n, _ := binary.Uvarint(text)
	return int(min(n, uint64(len(text))))
}

// ParseText makes an event of its text, with everything that it had when it came in. A
// record without node= gets host as its node, which the event is of whatever its records claim; where host is "", a host of mixed nodes, it
// gets its sender's address. The records are parts of text, which must stay as it is for
// as long as the event is used.
func ParseText(text []byte, counted bool, host []byte, o Origin) *event.Event {
	ev := &event.Event{Records: make([]record.Record, 0, max(0, countRecords(text, counted)))}
	ParseInto(ev, text, counted, host, o)
	return ev
}

// ParseInto is ParseText into an event that was used before: its slice of records is used
// again, so what was read from it before is no longer valid.
func ParseInto(ev *event.Event, text []byte, counted bool, host []byte, o Origin) {
	named := len(host) > 0
	if !named {
		host = NodeOf(o.From)
	}
	list := ev.Records[:0]
	records(text, counted, func(raw []byte) {
		list = append(list, record.Record{})
		ParseRecord(&list[len(list)-1], raw, host)
	})
	*ev = event.Event{Records: list}
	if len(list) > 0 {
		ev.Node, ev.Ms, ev.Serial = list[0].Node, list[0].Ms(), list[0].Serial
	}
	if named {
		ev.Node = host
	}
	o.set(ev)
}

// CloneEvent copies an event and its records; both share the text.
func CloneEvent(ev *event.Event) *event.Event {
	out := *ev
	out.Records = slices.Clone(ev.Records)
	return &out
}

// ParseRecord parses a record that came from a host, which becomes its node when it
// names none. r refers to raw and host. A record that cannot be parsed keeps its error in
// r.Err and all its bytes in r.Raw.
func ParseRecord(r *record.Record, raw, host []byte) {
	_ = r.Parse(raw) // kept in r.Err, and the record is stored whatever it is
	r.Raw = raw      // newlines at its end too: what was sent comes back
	if r.Node == nil && len(host) > 0 {
		r.Node = host
	}
}
