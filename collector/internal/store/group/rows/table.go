package rows

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/auditfleet/auditfleet/pkg/varint"
)

// ErrDamaged is returned for bytes that no Encoder made.
var ErrDamaged = errors.New("malformed rows")

const (
	maxSlots     = 64      // of a template
	maxTemplates = 1 << 12 // of a table
	maxTable     = 1 << 20 // bytes of a table: of literals and first values
	maxLine      = 1 << 16 // a longer one is of template 0
	maxText      = 1 << 30 // an offset is less than inTable

	inTable = 1 << 31 // of a span's offset: it lies in the table's bytes, not in the text
)

// span is a value: where it lies in the text or, by inTable, in the table.
type span struct{ off, len uint32 }

// template is what lines of one shape share: the literals around the values. A line is the first literal, the first
// value, the second literal and so on, with a literal at the end.
type template struct {
	lits  [][]byte // one more than slots; all but the first and the last are not empty
	first []span   // by slot: the values of the first line of this template, in the table
	keys  []uint32 // by slot: the number of the literal before it, equal for equal literals
	bytes int      // of the literals
	stamp uint64   // a bit a slot: it is the time and serial of a record
	pid   int      // the slot that has the process; -1: none
}

// Table has the templates of the texts that are coded with it. An Encoder adds to it; for decoding it never changes, and any
// number of goroutines may use it.
type Table struct {
	temps []template
	bytes []byte            // the first values
	size  int               // bytes of literals and first values
	key   map[string]uint32 // by literal
	byLit map[uint64][]int32
}

var (
	litStamp = []byte("audit(")
	litPID   = []byte(" pid=")
)

// NewTable returns a table with template 0 only, which is any line: one value.
func NewTable() *Table {
	t := &Table{key: map[string]uint32{}, byLit: map[uint64][]int32{}}
	t.add([][]byte{{}, {}}, [][]byte{{}})
	return t
}

// Len returns how many templates there are.
func (t *Table) Len() int { return len(t.temps) }

// full says that no template is added any more.
func (t *Table) full() bool { return len(t.temps) >= maxTemplates || t.size >= maxTable }

// add adds a template with the values of its first line; lits and values are copied.
func (t *Table) add(lits, values [][]byte) int32 {
	x := template{pid: -1, lits: make([][]byte, len(lits)), first: make([]span, len(values)), keys: make([]uint32, len(values))}
	n := 0
	for _, l := range lits {
		n += len(l)
	}
	room := make([]byte, 0, n)
	for i, l := range lits {
		from := len(room)
		room = append(room, l...)
		x.lits[i] = room[from:len(room):len(room)]
	}
	x.bytes = n
	t.size += n + 64
	for i, v := range values {
		lit := x.lits[i]
		k, ok := t.key[string(lit)]
		if !ok {
			k = uint32(len(t.key))
			t.key[string(lit)] = k
		}
		x.keys[i] = k
		if bytes.HasSuffix(lit, litStamp) {
			x.stamp |= 1 << i
		} else if x.pid < 0 && bytes.HasSuffix(lit, litPID) {
			x.pid = i
		}
		x.first[i] = span{uint32(len(t.bytes)) | inTable, uint32(len(v))}
		t.bytes = append(t.bytes, v...)
		t.size += len(v) + 16
	}
	t.temps = append(t.temps, x)
	return int32(len(t.temps) - 1)
}

// Append appends the table: of each template but the first its number of values, the lengths of its literals and of its first
// values, and then these.
func (t *Table) Append(dst []byte) []byte {
	for i := range t.temps[1:] {
		x := &t.temps[1+i]
		dst = binary.AppendUvarint(dst, uint64(len(x.first)))
		for k, l := range x.lits {
			dst = append(binary.AppendUvarint(dst, uint64(len(l))), l...)
			if k < len(x.first) {
				v := t.bytes[x.first[k].off&^inTable:][:x.first[k].len]
				dst = append(binary.AppendUvarint(dst, uint64(len(v))), v...)
			}
		}
	}
	return dst
}

// ReadTable is the reverse of Append. Error: ErrDamaged.
func ReadTable(b []byte) (*Table, error) {
	t := NewTable()
	r := varint.NewReader(b)
	var lits, values [][]byte
	for r.Len() > 0 {
		n := r.Uvarint()
		if n > maxSlots || len(t.temps) >= maxTemplates || t.size > maxTable+2*maxLine {
			return nil, ErrDamaged
		}
		lits, values = lits[:0], values[:0]
		for i := range n + 1 {
			l := r.Bytes(r.Uvarint())
			if len(l) == 0 && i > 0 && i < n {
				return nil, ErrDamaged
			}
			lits = append(lits, l)
			if i < n {
				values = append(values, r.Bytes(r.Uvarint()))
			}
		}
		if r.Bad() || slices.ContainsFunc(lits, hasNewline) || slices.ContainsFunc(values, hasNewline) {
			return nil, ErrDamaged
		}
		t.add(lits, values)
	}
	return t, nil
}

// hasNewline reports whether a part of a line is none.
func hasNewline(b []byte) bool { return bytes.IndexByte(b, '\n') >= 0 }
