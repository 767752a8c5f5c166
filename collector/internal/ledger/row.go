package ledger

import (
	"cmp"
	"slices"
)

// The lengths of time that a row is about, in milliseconds.
const (
	minute int64 = 60_000
	Hour         = 60 * minute
	Day          = 24 * Hour
)

// Row is what is known of one host in one hour or one day of event time. Rows of the same
// host and time are added up: each batch and each part of the store has its own.
type Row struct {
	Start  int64   // in milliseconds since 1970, a multiple of Length
	Length int64   // Hour or Day
	Counts []Count // by slot: a minute of an hour, an hour of a day
	// Stated is for what the host's forwarder has said that nothing is missing but what
	// entries say; Chained where the events' serials follow one another. Both may be there for
	// the same time.
	Stated, Chained Spans
	Entries         []Entry // by From
	// Dropped is when retention dropped the records, or some of them; 0: they are there. See Past.
	Dropped int64
}

// slotLength is how long a slot of a row of a length is.
func slotLength(row int64) int64 {
	if row == Day {
		return Hour
	}
	return minute
}

// Count is what is stored of a slot.
type Count struct {
	Slot            uint16
	Records, Events uint64
}

// Entry is a time of which something is known that is not good. It lies in the row in which it
// begins, and ends there or in a later one.
type Entry struct {
	Cause    Cause
	From, To int64  // To may be From
	N        uint64 // records, of SerialGap events
}

// MaxEntries is how many entries of a row are told apart; beyond that those of a cause become
// one, over all their time.
const MaxEntries = 48

// nearby is how close two entries of a cause lie that are told as one: a forwarder says its
// losses every second while they go on.
const nearby = 10_000

// Notes of a cause that lie so close are told as one, and a row has so many of each: whoever
// connects in a loop takes no room from losses.
const (
	nearbyNotes = 60_000
	maxNotes    = 6
)

// count adds to a slot's numbers.
func (r *Row) count(ms int64, records, events uint64) {
	slot := uint16((ms - r.Start) / slotLength(r.Length))
	n := len(r.Counts)
	switch { // nearly always
	case n > 0 && r.Counts[n-1].Slot == slot:
		r.Counts[n-1].Records += records
		r.Counts[n-1].Events += events
		return
	case n == 0 || r.Counts[n-1].Slot < slot:
		r.Counts = append(r.Counts, Count{slot, records, events})
		return
	}
	i, found := slices.BinarySearchFunc(r.Counts, slot, func(c Count, s uint16) int { return int(c.Slot) - int(s) })
	if !found {
		r.Counts = slices.Insert(r.Counts, i, Count{Slot: slot})
	}
	r.Counts[i].Records += records
	r.Counts[i].Events += events
}

// enter adds an entry.
func (r *Row) enter(e Entry) {
	e.To = max(e.To, e.From)
	near, same, last := int64(nearby), 0, 0
	switch {
	case e.Cause.Note():
		near = nearbyNotes
	case e.Cause == SerialGap: // it counts or not by whether somebody answers for its time: joined where they overlap
		near = -1
	}
	for i := range r.Entries {
		x := &r.Entries[i]
		if x.Cause != e.Cause {
			continue
		}
		if e.From <= x.To+near && x.From <= e.To+near {
			x.join(e)
			return
		}
		same, last = same+1, i
	}
	if e.Cause.Note() && same >= maxNotes {
		r.Entries[last].join(e)
		return
	}
	if len(r.Entries) >= MaxEntries {
		for i := range r.Entries {
			if r.Entries[i].Cause == e.Cause {
				r.Entries[i].join(e)
				return
			}
		}
		r.squeeze()
	}
	i, _ := slices.BinarySearchFunc(r.Entries, e.From, func(x Entry, at int64) int { return cmp.Compare(x.From, at) })
	r.Entries = slices.Insert(r.Entries, i, e)
}

// squeeze makes one entry of those of each cause.
func (r *Row) squeeze() {
	var out []Entry
	for _, e := range r.Entries {
		if i := slices.IndexFunc(out, func(x Entry) bool { return x.Cause == e.Cause }); i >= 0 {
			out[i].join(e)
		} else {
			out = append(out, e)
		}
	}
	r.Entries = out
}

func (e *Entry) join(o Entry) {
	e.From, e.To = min(e.From, o.From), max(e.To, o.To)
	e.N = AddUp(e.N, o.N)
}

// AddUp adds, up to the greatest number: a sender can claim any.
func AddUp(a, b uint64) uint64 {
	if a+b < a {
		return ^uint64(0)
	}
	return a + b
}

// stated and chained add a time to those that are known so.
func (r *Row) stated(from, to int64) {
	r.Stated.Add(from, to)
	r.Stated.bound(maxSpans)
}

func (r *Row) chained(from, to int64) {
	r.Chained.Add(from, to)
	r.Chained.bound(maxSpans)
}

// Add adds what another row says of the same host, in a time that r's has.
func (r *Row) Add(o *Row) {
	slot := slotLength(o.Length)
	for _, c := range o.Counts {
		r.count(o.Start+int64(c.Slot)*slot, c.Records, c.Events)
	}
	for _, s := range o.Stated {
		r.stated(s.From, s.To)
	}
	for _, s := range o.Chained {
		r.chained(s.From, s.To)
	}
	for _, e := range o.Entries {
		r.enter(e)
	}
}

// DayOf is when the day begins in which a time lies.
func DayOf(ms int64) int64 { return start(ms, Day) }

// start is when the row of a length that has a time begins.
func start(ms, length int64) int64 {
	s := ms - ms%length
	if ms < 0 && s > ms {
		s -= length
	}
	return s
}
