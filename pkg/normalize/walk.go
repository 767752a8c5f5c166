package normalize

import (
	"bytes"

	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// field is a word of a record that contains a '='. The value keeps its quotes; a nil
// value is a key that cannot be decoded.
type field struct{ name, value []byte }

// part is one record of the event, split into fields.
type part struct {
	r           *record.Record
	first, past int // its fields in walk.fields
	at          int // where the walk stands in it, from first
}

// walk holds the fields of one event's records and a current place among them.
type walk struct {
	parts  []part
	fields []field
	now    int // index in parts; len(parts) when past the end
	text   []byte
}

// load takes records apart and goes to the start.
func (w *walk) load(records []record.Record) {
	w.parts, w.fields, w.text = w.parts[:0], w.fields[:0], w.text[:0]
	for i := range records {
		r := &records[i]
		first := len(w.fields)
		w.split(r)
		w.parts = append(w.parts, part{r: r, first: first, past: len(w.fields), at: first})
	}
	w.now = 0
}

var (
	stampPrefix = []byte("msg=a")    // msg=audit(…)
	nodePrefix  = []byte("node=")    // not of a host that is known otherwise
	claimPrefix = []byte("msg='")    // what a program said
	keyName     = []byte("key")      //
	verdictName = []byte("seresult") // the verdict of an AVC record, which has no name there
	permsName   = []byte("seperms")
	allocated   = []byte("avc")
)

// split appends a record's fields: from where the record begins, since a field's number
// decides what it is.
func (w *walk) split(r *record.Record) {
	line := r.Raw
	if r.Enriched != nil {
		line = line[:len(line)-len(r.Enriched)-1]
	}
	line = line[r.Start:]
	first := len(w.fields)
	verdictAt := 1 // how many fields stand before an AVC record's verdict
	if bytes.HasPrefix(line, nodePrefix) {
		verdictAt = 2
	}
	for len(line) > 0 {
		eq := 0 // names are short: a plain loop finds their ends sooner than IndexByte
		for eq < len(line) && line[eq] != '=' && line[eq] != ' ' {
			eq++
		}
		word := line
		if i := bytes.IndexByte(line[eq:], ' '); i >= 0 {
			word, line = line[:eq+i], line[eq+i+1:]
		} else {
			line = nil
		}
		if eq == len(word) {
			if len(word) > 0 && (r.Type == tables.AVC || r.Type == tables.UserAVC) {
				line = w.verdict(word, line, len(w.fields)-first-verdictAt)
			}
			continue
		}
		if bytes.HasPrefix(word, stampPrefix) {
			continue
		}
		if bytes.HasPrefix(word, claimPrefix) {
			word = word[len(claimPrefix):]
			if eq = bytes.IndexByte(word, '='); eq < 0 {
				continue
			}
		}
		w.add(word[:eq], word[eq+1:])
	}
}

// verdict reads what SELinux says in words: "avc:  denied  { read write } for".
// done is how many fields there are after the type. It returns the rest of line.
func (w *walk) verdict(word, line []byte, done int) []byte {
	switch {
	case done == 0 && !bytes.HasPrefix(word, allocated):
		w.fields = append(w.fields, field{verdictName, word})
	case done == 1 && word[0] == '{':
		from := len(w.text)
		for len(line) > 0 {
			i := bytes.IndexByte(line, ' ')
			if i < 0 {
				i = len(line)
			}
			perm := line[:i]
			line = line[min(i+1, len(line)):]
			if len(perm) > 0 && perm[0] == '}' {
				break
			}
			if len(perm) > 0 {
				if len(w.text) > from {
					w.text = append(w.text, ',')
				}
				w.text = append(w.text, perm...)
			}
		}
		w.fields = append(w.fields, field{permsName, w.text[from:len(w.text):len(w.text)]})
	}
	return line
}

// add appends one field without what is only punctuation.
func (w *walk) add(name, value []byte) {
	if len(value) == 0 {
		return
	}
	if len(name) > 0 && name[0] == '(' {
		name = name[1:]
	}
	switch value[len(value)-1] {
	case ':', ',', '\'', ')':
		value = unpunctuated(value)
	}
	if len(name) == 3 && string(name) == "key" && len(value) > 0 && value[0] != '"' && value[0] != '(' {
		w.addKeys(value)
		return
	}
	w.fields = append(w.fields, field{name, value})
}

// unpunctuated returns a value without the punctuation at its end.
func unpunctuated(value []byte) []byte {
	for _, c := range [...]byte{':', ',', '\''} {
		if n := len(value); n > 0 && value[n-1] == c {
			value = value[:n-1]
		}
	}
	if n := len(value); n > 0 && value[n-1] == ')' && string(value) != "(none)" && string(value) != "(null)" {
		value = value[:n-1]
	}
	return value
}

// addKeys appends each of the keys that are in hex, 0x01 between them.
func (w *walk) addKeys(value []byte) {
	n := interpret.HexLen(value)
	if n < 2 {
		w.fields = append(w.fields, field{keyName, nil})
		return
	}
	from := len(w.text)
	for i := 0; i < n; i += 2 {
		c := interpret.HexByte(value, i)
		if c == 0 {
			break
		}
		w.text = append(w.text, c)
	}
	for end := len(w.text); from < end; {
		n := bytes.IndexByte(w.text[from:end], 1)
		if n < 0 {
			n = end - from
		}
		if n > 0 {
			w.fields = append(w.fields, field{keyName, w.untrusted(w.text[from : from+n])})
		}
		from += n + 1
	}
}

// untrusted returns text as the kernel writes an untrusted string.
func (w *walk) untrusted(text []byte) []byte {
	const digits = "0123456789ABCDEF"
	from := len(w.text)
	for _, c := range text {
		if c == '"' || c < 0x21 || c > 0x7e {
			for _, c := range text {
				w.text = append(w.text, digits[c>>4], digits[c&15])
			}
			return w.text[from:len(w.text):len(w.text)]
		}
	}
	w.text = append(append(append(w.text, '"'), text...), '"')
	return w.text[from:len(w.text):len(w.text)]
}

// rewind goes to the event's first field.
func (w *walk) rewind() {
	w.now = 0
	w.first()
}

// first goes back to the first field of the record it stands in.
func (w *walk) first() {
	if w.now < len(w.parts) {
		w.parts[w.now].at = w.parts[w.now].first
	}
}

// jump goes to the first field of record n; it stays where it is when there is
// none.
func (w *walk) jump(n int) {
	if n >= 0 && n < len(w.parts) {
		w.now = n
		w.first()
	}
}

// step goes to the next record, to where the walk left it before.
func (w *walk) step() bool {
	if w.now < len(w.parts) {
		w.now++
	}
	return w.now < len(w.parts)
}

// find goes forward to the next field of that name, the one it stands on first.
// Without one it ends past the last record, except that from a record's last
// field it does not move at all.
func (w *walk) find(name string) ([]byte, bool) {
	if w.now >= len(w.parts) {
		return nil, false
	}
	p := &w.parts[w.now]
	if p.at < p.past && string(w.fields[p.at].name) == name {
		v := w.fields[p.at].value
		return v, v != nil
	}
	if p.at+1 >= p.past {
		return nil, false
	}
	p.at++
	for {
		for i := p.at; i < p.past; i++ {
			if string(w.fields[i].name) == name {
				p.at = i
				v := w.fields[i].value
				return v, v != nil
			}
		}
		w.now++
		if w.now >= len(w.parts) {
			return nil, false
		}
		p = &w.parts[w.now]
		p.at = p.first
	}
}

// typ is the type of the record it stands in, 0 past the end.
func (w *walk) typ() uint16 {
	if w.now >= len(w.parts) {
		return 0
	}
	return w.parts[w.now].r.Type
}

// number is that of the record it stands in, 0 past the end.
func (w *walk) number() int {
	if w.now >= len(w.parts) {
		return 0
	}
	return w.now
}

// here is the place it stands on.
func (w *walk) here() Value {
	if w.now >= len(w.parts) {
		return Value{set: true}
	}
	return w.in(w.now)
}

// in is the number of the field it stands on, taken for one of record n.
func (w *walk) in(n int) Value {
	v := Value{set: true, record: n}
	if w.now < len(w.parts) {
		p := &w.parts[w.now]
		v.field = p.at - p.first
	}
	return v
}

// Value is the place of a value in the event that was normalized last; the zero Value
// stands for no value. It becomes invalid with the next call of Normalizer.Event.
type Value struct {
	set           bool
	record, field int
}

// at returns the record and the field of v, if there is such a place.
func (w *walk) at(v Value) (*record.Record, field, bool) {
	if !v.set || v.record >= len(w.parts) {
		return nil, field{}, false
	}
	p := &w.parts[v.record]
	if p.first+v.field >= p.past {
		return nil, field{}, false
	}
	return p.r, w.fields[p.first+v.field], true
}
