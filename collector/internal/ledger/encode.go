package ledger

import (
	"encoding/binary"
	"errors"

	"github.com/auditfleet/auditfleet/pkg/varint"
)

// ErrFormat is returned for bytes that are no row or tracker. The store has a checksum of its own
// around them, so it says that another program wrote them.
var ErrFormat = errors.New("not a ledger's value")

const rowVersion = 2

// Append appends the row's bytes to dst (FORMAT.md). Start and Length are the store's key.
func (r *Row) Append(dst []byte) []byte {
	dst = append(dst, rowVersion)
	dst = r.appendCounts(dst)
	for _, l := range []Spans{r.Stated, r.Chained} {
		dst = binary.AppendUvarint(dst, uint64(len(l)))
		at := r.Start
		for _, s := range l {
			dst = binary.AppendUvarint(dst, uint64(s.From-at))
			dst = binary.AppendUvarint(dst, uint64(s.To-s.From))
			at = s.To
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(r.Entries)))
	for _, e := range r.Entries {
		dst = append(dst, byte(e.Cause))
		dst = binary.AppendUvarint(dst, uint64(e.From-r.Start))
		dst = binary.AppendUvarint(dst, uint64(e.To-e.From))
		dst = binary.AppendUvarint(dst, e.N)
	}
	return dst
}

// ParseRow is the reverse of Append. Errors: ErrFormat.
func ParseRow(b []byte, at, length int64) (*Row, error) {
	if len(b) == 0 || b[0] < 1 || b[0] > rowVersion || at != start(at, length) {
		return nil, ErrFormat
	}
	in := varint.NewReader(b[1:])
	r := &Row{Start: at, Length: length}
	counts := r.parseCounts
	if b[0] == 1 {
		counts = r.parseCounts1
	}
	if !counts(&in) {
		return nil, ErrFormat
	}
	for _, l := range []*Spans{&r.Stated, &r.Chained} {
		next := int64(0)
		n := in.Count(2)
		if n > 0 {
			*l = make(Spans, n)
		}
		for i := range n {
			skip, run := in.Uvarint(), in.Uvarint()
			if skip > uint64(length) || run > uint64(length) || next+int64(skip+run) > length {
				return nil, ErrFormat
			}
			from := next + int64(skip)
			next = from + int64(run)
			(*l)[i] = Span{at + from, at + next}
		}
	}
	if n := in.Count(4); n > 0 {
		r.Entries = make([]Entry, n)
		for i := range r.Entries {
			c := in.Bytes(1)
			from, long := in.Uvarint(), in.Uvarint()
			// Entries that were joined may be longer than each, but end no later than one that begins with the row's end.
			if in.Bad() || from >= uint64(length) || long > uint64(length+farthest)-from {
				return nil, ErrFormat
			}
			r.Entries[i] = Entry{Cause(c[0]), at + int64(from), at + int64(from) + int64(long), in.Uvarint()}
		}
	}
	if in.Bad() || in.Len() > 0 {
		return nil, ErrFormat
	}
	return r, nil
}

// maxSlots is how many slots a row has at most.
const maxSlots = 60

// appendCounts appends runs of slots that follow one another.
func (r *Row) appendCounts(dst []byte) []byte {
	runs := 0
	for i, c := range r.Counts {
		if i == 0 || c.Slot != r.Counts[i-1].Slot+1 {
			runs++
		}
	}
	dst = binary.AppendUvarint(dst, uint64(runs))
	next := uint64(0)
	for i := 0; i < len(r.Counts); {
		n := 1
		for i+n < len(r.Counts) && r.Counts[i+n].Slot == r.Counts[i+n-1].Slot+1 {
			n++
		}
		dst = binary.AppendUvarint(dst, uint64(r.Counts[i].Slot)-next)
		dst = binary.AppendUvarint(dst, uint64(n))
		for _, c := range r.Counts[i : i+n] {
			dst = binary.AppendUvarint(dst, c.Records)
			dst = binary.AppendUvarint(dst, c.Events)
		}
		i += n
		next = uint64(r.Counts[i-1].Slot) + 1
	}
	return dst
}

func (r *Row) parseCounts(in *varint.Reader) bool {
	next := uint64(0)
	for range in.Count(4) {
		slot, n := in.Uvarint(), in.Uvarint()
		if slot > maxSlots || n == 0 || n > maxSlots || next+slot+n > maxSlots || next > 0 && slot == 0 {
			return false
		}
		if r.Counts == nil {
			r.Counts = make([]Count, 0, n)
		}
		next += slot
		for range n {
			r.Counts = append(r.Counts, Count{uint16(next), in.Uvarint(), in.Uvarint()})
			next++
		}
	}
	return true
}

// parseCounts1 is parseCounts for rows of version 1: each slot with its distance from the one before.
func (r *Row) parseCounts1(in *varint.Reader) bool {
	slot := uint64(0)
	for i := range in.Count(3) {
		skip := in.Uvarint()
		if skip >= maxSlots || slot+skip >= maxSlots || i > 0 && skip == 0 {
			return false
		}
		slot += skip
		r.Counts = append(r.Counts, Count{uint16(slot), in.Uvarint(), in.Uvarint()})
	}
	return true
}
