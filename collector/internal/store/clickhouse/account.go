package clickhouse

import (
	"maps"
	"slices"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// The first shard has rows of each batch, one for each part that it is in: what of it there is in all shards together. They are written behind its events, and behind them
// the collector says, in a table of which nothing is ever dropped, that the batch is stored. Batches come one after the other, so that says it of all before, too. Whoever goes
// by this never sees half a batch, nor loses one of whose parts some are dropped.

// repeated is a batch some of which may have been inserted more than once.
type repeated struct {
	part  store.Part
	store string
	batch uint64
}

// account is what the rows say together. It never changes once it is made.
type account struct {
	read    time.Time
	now     time.Time // by the servers' clock
	parts   map[store.Part]*store.PartStats
	last    map[string]latest        // of each place, by its ID
	again   []repeated               // the batches of which there may be rows with the same key
	newest  store.Day                // of all parts but those of a day that has not begun
	several bool                     // there are batches of other places
	dropped map[store.Part]time.Time // and when; no batch goes to one of their numbers again
	hidden  []store.Part             // of these, those of which something may be there
	there   map[store.Part]bool      // those of which something is on the disks of a server that was asked for sizes
	holds   map[string]string        // what collectors have on hold, by store
}

// later is how many days old the last part of another place is no longer taken for one that is written.
const later = 2

// settle works out what follows from the rows. A day that has not begun by the servers' clock is of a collector whose clock is, or was, ahead: the others go on with theirs.
func (a *account) settle(own string) {
	a.newest, a.several = 0, false
	for part := range a.parts {
		if part.Day <= store.DayOf(a.now) {
			a.newest = max(a.newest, part.Day)
		}
	}
	for _, p := range a.parts {
		p.Sealed = true
	}
	for id, l := range a.last {
		day, is := l.day()
		a.several = a.several || is && id != own
		if !is || id != own && day+later < a.newest {
			continue
		}
		for _, part := range l.parts {
			if p := a.parts[part]; p != nil {
				p.Sealed = false
			}
		}
		// The next batch may have events of any class that the day has.
		for class, n := range a.lastOf(day) {
			if p := a.parts[store.Part{Day: day, N: n}]; class != "" && p != nil {
				p.Sealed = false
			}
		}
	}
}

// with returns the account with the rows of one more batch of ours, or of what begins behind the last one; the account itself where it has these.
func (a *account) with(own string, rows []row) *account {
	if a == nil {
		return nil
	}
	last, r := a.last[own], rows[0]
	if r.batch < last.batch || r.batch == last.batch && last.batch != 0 && !slices.ContainsFunc(rows, func(r row) bool { return r.events == 0 && !slices.Contains(last.parts, r.part) }) {
		return a
	}
	b := *a
	b.parts, b.last = copyParts(a.parts), maps.Clone(a.last)
	if b.last == nil {
		b.last = map[string]latest{}
	}
	for i := range rows {
		b.add(own, &rows[i])
	}
	written := rows
	if r.batch == last.batch { // behind that one
		for _, part := range last.parts {
			if p := b.parts[part]; p != nil {
				written = append(slices.Clip(written), row{part: part, batch: r.batch, class: p.Class})
			}
		}
	}
	parts, _ := writtenOf(written)
	b.last[own] = latest{batch: r.batch, parts: parts}
	b.settle(own)
	return &b
}

// add adds a row of ours.
func (a *account) add(own string, r *row) {
	addPart(a.parts, r.stats())
	if r.again {
		a.again = append(slices.Clip(a.again), repeated{r.part, own, r.batch})
	}
}

// without returns the account without some parts.
func (a *account) without(hidden map[store.Part]bool) *account {
	if a == nil || len(hidden) == 0 {
		return a
	}
	b := *a
	b.parts = maps.Clone(a.parts)
	for part := range hidden {
		delete(b.parts, part)
	}
	return &b
}

// gone returns the account with one more part that is dropped.
func (a *account) gone(part store.Part) *account {
	if a == nil {
		return nil
	}
	b := *a
	b.dropped = maps.Clone(a.dropped)
	if b.dropped == nil {
		b.dropped = map[store.Part]time.Time{}
	}
	b.dropped[part] = time.Now()
	b.hidden = append(slices.Clip(b.hidden), part)
	return &b
}

// stats are the account's sums. What is dropped counts no more, though something of it may be on the disks until nobody reads it: whoever drops days
// until they fit would drop all.
func (a *account) stats() (s store.Stats) {
	s.Now = a.now
	for _, p := range a.parts {
		s.Parts = append(s.Parts, *p)
		s.DiskBytes += p.DiskBytes
		s.Events, s.Records, s.RawBytes = s.Events+p.Events, s.Records+p.Records, s.RawBytes+p.RawBytes
		if p.MinMs != 0 && (s.MinMs == 0 || p.MinMs < s.MinMs) {
			s.MinMs = p.MinMs
		}
		s.MaxMs = max(s.MaxMs, p.MaxMs)
	}
	slices.SortFunc(s.Parts, func(x, y store.PartStats) int { return x.Part.Compare(y.Part) })
	return s
}
