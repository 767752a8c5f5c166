package search

import (
	"bytes"
	"sync"
	"sync/atomic"

	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// LogNames tells a Missing the names in the text of logs, while that is read for something
// else. It finds them by their fields' names without parsing records, so it may see a few
// that a parser would not: it then finds a name that none has, and says nothing of it. Hosts
// stand where lines begin, and are read there as a parser does. It
// stops looking once all names that are wanted were seen.
//
// Several goroutines may call read. mu guards missing: most values of a chunk are known, so
// a chunk is looked through under the lock for reading, and only what is new takes the
// other.
type LogNames struct {
	mu      sync.RWMutex
	missing *Missing
	seekers []seeker
	hosts   bool // are wanted
	done    atomic.Bool
}

// seeker is what the fields of some name begin with.
type seeker struct {
	start  []byte // "key=", or the common end of several names: "UID=" also of AUID= and EUID=
	fields []seekerField
}

// seekerField is a field whose name ends with the seeker's start.
type seekerField struct {
	before string // what is left of its name: "A" of AUID=
	field  query.Field
}

// allSeekers has each field that a Missing asks for.
var allSeekers = []seeker{
	{[]byte("key="), []seekerField{{"", query.FieldKey}}},
	{[]byte("exe="), []seekerField{{"", query.FieldExe}}},
	{[]byte("comm="), []seekerField{{"", query.FieldComm}}},
	{[]byte("uid="), []seekerField{{"", query.FieldUID}, {"a", query.FieldAUID}, {"e", query.FieldEUID}}},
	{[]byte("gid="), []seekerField{{"", query.FieldGID}, {"e", query.FieldEGID}}},
	{[]byte("UID="), []seekerField{{"", query.FieldUIDName}, {"A", query.FieldAUIDName}, {"E", query.FieldEUIDName}}},
	{[]byte("GID="), []seekerField{{"", query.FieldGIDName}, {"E", query.FieldEGIDName}}},
}

// NewLogNames returns the LogNames of a query; nil where it asks for no names.
func NewLogNames(q *query.Query) *LogNames {
	m := MissingOf(q)
	if m == nil {
		return nil
	}
	l := &LogNames{missing: m, hosts: m.known[hosts] != nil}
	for _, s := range allSeekers {
		for _, f := range s.fields {
			if _, wanted := m.known[f.field]; wanted {
				l.seekers = append(l.seekers, s)
				break
			}
		}
	}
	return l
}

// named is a value that was not known.
type named struct {
	field query.Field
	value []byte
}

// Reader returns what has to be given the text that is read, in pieces of whole lines; nil
// where no names are wanted. Several goroutines may call it.
func (l *LogNames) Reader() func(text []byte) {
	if l == nil {
		return nil
	}
	return l.read
}

// Notes returns a note for each name that no record had. Nobody may call the Reader any
// more.
func (l *LogNames) Notes() []string {
	if l == nil {
		return nil
	}
	return l.missing.Notes()
}

// read looks through whole lines of a log.
func (l *LogNames) read(text []byte) {
	if l.done.Load() {
		return
	}
	var fresh []named
	l.mu.RLock()
	if l.hosts {
		fresh = l.hostsOf(text, fresh)
	}
	for i := range l.seekers {
		fresh = l.seek(&l.seekers[i], text, fresh)
	}
	l.mu.RUnlock()
	if len(fresh) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, v := range fresh {
		l.missing.value(v.field, v.value)
	}
	l.done.Store(l.missing.Done())
}

var (
	nodeField = []byte("node=")
	typeField = []byte("type=")
)

// hostsOf appends the hosts of lines that are not known yet: of their node=, or what syslog
// has put before the record.
func (l *LogNames) hostsOf(text []byte, fresh []named) []named {
	known := l.missing.known[hosts]
	var last []byte // nearly every host is that of the line before
	var r record.Record
	for line := range bytes.Lines(text) {
		var name []byte
		if rest, ok := bytes.CutPrefix(line, nodeField); ok {
			name, _, _ = bytes.Cut(rest, []byte{' '})
		} else if !bytes.HasPrefix(line, typeField) && r.Parse(line) == nil {
			name = r.Node
		}
		if name == nil || bytes.Equal(name, last) {
			continue
		}
		if last = name; !known[string(name)] {
			fresh = append(fresh, named{hosts, bytes.Clone(name)})
		}
	}
	return fresh
}

// seek appends the values of a seeker's fields that are not known yet.
func (l *LogNames) seek(s *seeker, text []byte, fresh []named) []named {
	var last, scratch []byte // nearly every value is that of the record before
	var lastField query.Field
	for at := 0; ; {
		i := bytes.Index(text[at:], s.start)
		if i < 0 {
			return fresh
		}
		begin := at + i
		at = begin + len(s.start)
		f, ok := s.field(text[:begin])
		if !ok {
			continue
		}
		have, wanted := l.missing.known[f]
		v := valueAt(text[at:], f >= query.FieldAUIDName)
		at += len(v.Value) // what is in a value is no field, and each byte is looked at once
		if !wanted || bytes.Equal(v.Value, last) && f == lastField {
			continue
		}
		last, lastField = v.Value, f
		value := v.Value
		if untrusted.Has(f) {
			scratch = v.AppendDecoded(scratch[:0])
			value = scratch
		}
		for one := range bytes.SplitSeq(value, []byte{1}) { // a key= may have several
			if !have[string(one)] {
				fresh = append(fresh, named{f, bytes.Clone(one)})
			}
		}
	}
}

// untrusted is the fields that the kernel writes in hex where they need it.
var untrusted = query.SetOf(query.FieldKey, query.FieldExe, query.FieldComm)

// field returns the field whose name's rest stands at the end of before.
func (s *seeker) field(before []byte) (query.Field, bool) {
	for _, f := range s.fields {
		rest, ok := bytes.CutSuffix(before, []byte(f.before))
		if ok && (len(rest) == 0 || !nameByte(rest[len(rest)-1])) {
			return f.field, true
		}
	}
	return 0, false
}

// nameByte says whether c may be in the name of a field.
func nameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c-'0' <= 9 || c == '_' || c == '-'
}

// valueAt cuts the value of a field, which text begins with. One in the enriched tail may
// have blanks without quotes, up to the next name in capitals.
func valueAt(text []byte, enriched bool) record.Field {
	if len(text) > 0 && text[0] == '"' {
		if end := bytes.IndexByte(text[1:], '"'); end >= 0 && bytes.IndexByte(text[1:1+end], '\n') < 0 {
			return record.Field{Value: text[1 : 1+end], Quote: '"'}
		}
	}
	end := 0
	for end < len(text) && text[end] != '\n' && text[end] != '\x1d' && text[end] != '\'' {
		if text[end] == ' ' && (!enriched || capitalName(text[end+1:])) {
			break
		}
		end++
	}
	value := text[:end]
	if !enriched { // programs put commas between the fields of their messages
		value = bytes.TrimSuffix(value, []byte(","))
	}
	return record.Field{Value: value}
}

// capitalName says whether text begins with a name of the enriched tail.
func capitalName(text []byte) bool {
	for i, c := range text {
		if c == '=' {
			return i > 0
		}
		if (c < 'A' || c > 'Z') && c-'0' > 9 && c != '_' {
			return false
		}
	}
	return true
}
