package ledger

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/auditfleet/auditfleet/pkg/varint"
)

// Past is what is still known of a host's days whose records retention has dropped: rows of days
// with a Retention entry in place of their counts, by Start.
type Past []*Row

const (
	pastVersion = 1
	// maxPast is how many days are known: as many as an event may be late by.
	maxPast = int(oldest/Day) + 2
	// pastEntries is how many entries of a day are told apart there.
	pastEntries = 8
	// pastSpans is how many times of a kind a day tells apart there.
	pastSpans = 32
)

// Add adds a row whose records were dropped at a time, of an hour or a day.
func (p *Past) Add(r *Row, at int64) {
	list := *p
	day := DayOf(r.Start)
	i, found := slices.BinarySearchFunc(list, day, func(x *Row, day int64) int { return cmp.Compare(x.Start, day) })
	if !found {
		list = slices.Insert(list, i, &Row{Start: day, Length: Day})
	}
	x := list[i]
	x.Dropped = max(x.Dropped, at)
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
	bare := Row{Stated: r.Stated, Chained: r.Chained}
	for _, e := range r.Entries {
		if !e.Cause.Note() {
			bare.Entries = append(bare.Entries, e)
		}
	}
	x.Add(&bare)
	x.Stated.bound(pastSpans)
	x.Chained.bound(pastSpans)
	if len(x.Entries) > pastEntries {
		x.squeeze()
	}
	if len(list) > maxPast {
		list = slices.Delete(list, 0, len(list)-maxPast)
	}
	*p = list
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
	p.Add(&Row{Start: r.Start, Length: Day, Stated: r.Stated, Chained: r.Chained, Entries: r.Entries}, r.Dropped)
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
