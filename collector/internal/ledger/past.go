package ledger

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/auditfleet/auditfleet/pkg/varint"
)

// Past is what is still known of a host's days whose records retention has dropped: rows of days
// with Retention entries in place of their counts, by Start. A day that is dropped in several parts has two counts: what there was
// (slotAll), once the part that has its account is dropped, and what was dropped of it (slotGone).
type Past []*Row

const (
	pastVersion = 1
	// maxPast is how many days are known: as many as an event may be late by.
	maxPast = int(oldest/Day) + 2
	// pastEntries is how many entries of a day are told apart there.
	pastEntries = 8
	// pastSpans is how many times of a kind a day tells apart there.
	pastSpans = 32

	// The slots of a day's counts; see Past.
	slotAll  = 0
	slotGone = 1
)

// Add adds a row whose records were dropped at a time, of an hour or a day.
func (p *Past) Add(r *Row, at int64) {
	x := p.day(r.Start, at)
	from, to, n := int64(0), int64(0), uint64(0)
	long := slotLength(r.Length)
	for j, c := range r.Counts {
		begin := r.Start + int64(c.Slot)*long
		if j == 0 {
			from = begin
		}
		to, n = begin+long, AddUp(n, c.Records)
	}
	if n > 0 {
		from, to = r.known(from, from+long, to-long, to)
		x.enter(Entry{Retention, from, to, n})
	}
	x.condense(r)
}

// Keep adds a row of which nobody says here which records were dropped: how many there were stays known, and Drop says the
// rest. Some of them may be in other parts of the store.
func (p *Past) Keep(r *Row, at int64) {
	x := p.day(r.Start, at)
	for _, c := range r.Counts {
		x.count(x.Start+slotAll*Hour, c.Records, c.Events)
	}
	x.condense(r)
}

// Drop adds that so many records of a time were dropped, as Keep's rows have them.
func (p *Past) Drop(cause Cause, from, to int64, records, events uint64, at int64) {
	x := p.day(from, at)
	x.enter(Entry{cause, from, to, records})
	x.count(x.Start+slotGone*Hour, records, events)
	x.fewer()
}

// day returns the row of a day of which records were dropped at a time.
func (p *Past) day(ms, at int64) *Row {
	day := DayOf(ms)
	i, found := slices.BinarySearchFunc(*p, day, func(x *Row, day int64) int { return cmp.Compare(x.Start, day) })
	if !found {
		*p = slices.Insert(*p, i, &Row{Start: day, Length: Day})
	}
	x := (*p)[i]
	x.Dropped = max(x.Dropped, at)
	if n := len(*p) - maxPast; n > 0 {
		*p = slices.Delete(*p, 0, n) // x may be one of these: then it is forgotten
	}
	return x
}

// condense adds what is known beside counts and notes.
func (r *Row) condense(o *Row) {
	bare := Row{Stated: o.Stated, Chained: o.Chained}
	for _, e := range o.Entries {
		if !e.Cause.Note() {
			bare.Entries = append(bare.Entries, e)
		}
	}
	r.Add(&bare)
	r.Stated.bound(pastSpans)
	r.Chained.bound(pastSpans)
	r.fewer()
}

func (r *Row) fewer() {
	if len(r.Entries) > pastEntries {
		r.squeeze()
	}
}

// known makes a time that is known by slots shorter where somebody answers for a part of its first and
// last slot: there the host was first and last heard of.
func (r *Row) known(from, firstEnd, lastBegin, to int64) (int64, int64) {
	first, last := to, from
	for _, s := range []Spans{r.Stated, r.Chained} {
		if len(s) > 0 {
			first, last = min(first, s[0].From), max(last, s[len(s)-1].To)
		}
	}
	if first > from && first < firstEnd {
		from = first
	}
	if last < to && last > lastBegin && last > from {
		to = last
	}
	return from, to
}

// Merge adds a day of another Past.
func (p *Past) Merge(r *Row) {
	x := p.day(r.Start, r.Dropped)
	for _, c := range r.Counts {
		x.count(x.Start+int64(c.Slot)*Hour, c.Records, c.Events)
	}
	x.condense(r)
}

// Expire lets go of days that are too long ago.
func (p *Past) Expire(now int64) {
	*p = slices.DeleteFunc(*p, func(r *Row) bool { return r.Start+r.Length < now-oldest })
}

// Append appends the bytes of p to dst (FORMAT.md).
func (p Past) Append(dst []byte) []byte {
	dst = append(dst, pastVersion)
	dst = binary.AppendUvarint(dst, uint64(len(p)))
	at := int64(0)
	for _, r := range p {
		dst = binary.AppendVarint(dst, r.Start/Day-at)
		at = r.Start / Day
		dst = binary.AppendUvarint(dst, uint64(r.Dropped))
		row := r.Append(nil)
		dst = binary.AppendUvarint(dst, uint64(len(row)))
		dst = append(dst, row...)
	}
	return dst
}

// ParsePast is the reverse of Append. Errors: ErrFormat.
func ParsePast(b []byte) (Past, error) {
	if len(b) == 0 || b[0] != pastVersion {
		return nil, ErrFormat
	}
	in := varint.NewReader(b[1:])
	n := in.Count(4)
	if n > maxPast {
		return nil, ErrFormat
	}
	p := make(Past, 0, n)
	day := int64(0)
	for range n {
		skip := in.Uvarint()
		day += int64(skip>>1) ^ -int64(skip&1)
		dropped, size := in.Uvarint(), in.Uvarint()
		if in.Bad() || size > uint64(in.Len()) || dropped > 1<<62 || day > 1<<40 || day < -(1<<40) {
			return nil, ErrFormat
		}
		r, err := ParseRow(in.Bytes(size), day*Day, Day)
		if err != nil || len(p) > 0 && p[len(p)-1].Start >= r.Start {
			return nil, ErrFormat
		}
		r.Dropped = int64(dropped)
		p = append(p, r)
	}
	if in.Bad() || in.Len() > 0 {
		return nil, ErrFormat
	}
	return p, nil
}
