package clickhouse

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// The first shard has a row for each batch that is wholly stored: what of it there is in all shards together. The row is
// written last, so whoever goes by these rows never sees half a batch.

// row is a batch's row. One without events begins another part of a day, with the number of the batch before.
type row struct {
	part           store.Part
	batch          uint64
	events         uint64
	records, bytes uint64
	minMs, maxMs   int64
	again          bool // some of it may have been inserted more than once: there may be rows with the same key
}

// repeated is a batch some of which may have been inserted more than once.
type repeated struct {
	part  store.Part
	store string
	batch uint64
}

// account is what the rows say together. It never changes once it is made.
type account struct {
	read    time.Time
	parts   map[store.Part]*store.PartStats
	last    map[string]row           // the last row of each place, by its ID
	again   []repeated               // the batches of which there may be rows with the same key
	newest  store.Day                // of all parts
	several bool                     // there are batches of other places
	dropped map[store.Part]time.Time // and when; no batch goes to one of their numbers again
	hidden  []store.Part             // of these, those of which something may be there
}

// dayNumber and dayOf are how the tables have a day: 20261122.
func dayNumber(d store.Day) int32 {
	y, m, day := d.Time().Date()
	return int32(y*10000 + int(m)*100 + day)
}

func dayOf(n int32) store.Day {
	return store.DayOf(time.Date(int(n/10000), time.Month(n/100%100), int(n%100), 0, 0, 0, 0, time.UTC))
}

// account reads the account.
func (c *servers) account(ctx context.Context, own string, names []string, of map[string][]*node) (*account, error) {
	a := &account{read: time.Now()}
	db, first := c.address.Database, c.shard(of[names[0]])
	// Which was the last is asked first: what comes in between is in the sums, and in no snapshot.
	err := first.ask(ctx, "SELECT store, batch, day, part, events, records, bytes, min_ms, max_ms FROM "+db+".batches ORDER BY store, batch DESC, part DESC LIMIT 1 BY store",
		func() { a.last = map[string]row{} },
		func(scan func(...any) error) error {
			var id string
			var r row
			var day int32
			var n uint32
			err := scan(&id, &r.batch, &day, &n, &r.events, &r.records, &r.bytes, &r.minMs, &r.maxMs)
			r.part = store.Part{Day: dayOf(day), N: int(n)}
			a.last[id] = r
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("read which batches there are: %w", err)
	}
	err = first.ask(ctx, "SELECT day, part, sum(e), sum(r), sum(b), minIf(lo, lo != 0), max(hi), maxIf(batch, store = "+quote(own)+" AND e > 0) FROM "+
		"(SELECT store, batch, day, part, any(events) AS e, any(records) AS r, any(bytes) AS b, any(min_ms) AS lo, any(max_ms) AS hi FROM "+db+".batches GROUP BY store, batch, day, part) GROUP BY day, part",
		func() { a.parts = map[store.Part]*store.PartStats{} },
		func(scan func(...any) error) error {
			var day int32
			var n uint32
			p := &store.PartStats{}
			err := scan(&day, &n, &p.Events, &p.Records, &p.RawBytes, &p.MinMs, &p.MaxMs, &p.LastID)
			p.Part = store.Part{Day: dayOf(day), N: int(n)}
			p.Received = p.Day
			a.parts[p.Part] = p
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("read which parts there are: %w", err)
	}
	err = first.ask(ctx, "SELECT DISTINCT day, part, store, batch FROM "+db+".batches WHERE again = 1",
		func() { a.again = nil },
		func(scan func(...any) error) error {
			var day int32
			var n uint32
			var r repeated
			err := scan(&day, &n, &r.store, &r.batch)
			r.part = store.Part{Day: dayOf(day), N: int(n)}
			a.again = append(a.again, r)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("read which batches were inserted again: %w", err)
	}
	if err := c.sizes(ctx, a, names, of); err != nil {
		return nil, err
	}
	a.settle(own)
	return a, nil
}

// sizes adds what the parts take on the disks of one replica of each shard.
func (c *servers) sizes(ctx context.Context, a *account, names []string, of map[string][]*node) error {
	for _, shard := range names {
		sizes := map[string]uint64{}
		err := c.shard(of[shard]).ask(ctx, "SELECT partition, sum(bytes_on_disk) FROM system.parts WHERE active AND database = "+quote(c.address.Database)+" AND table IN ('events', 'batches') GROUP BY partition",
			func() { clear(sizes) },
			func(scan func(...any) error) error {
				var name string
				var n uint64
				err := scan(&name, &n)
				sizes[name] = n
				return err
			})
		if err != nil {
			return fmt.Errorf("read what is on the disks: %w", err)
		}
		for part, p := range a.parts {
			p.DiskBytes += sizes[partition(part)]
		}
	}
	return nil
}

// partition is a part's name in ClickHouse.
func partition(p store.Part) string { return fmt.Sprintf("(%d,%d)", dayNumber(p.Day), p.N) }

// later is how many days old the last part of another place is no longer taken for one that is written.
const later = 2

// settle works out what follows from the rows.
func (a *account) settle(own string) {
	a.newest, a.several = 0, false
	for part := range a.parts {
		a.newest = max(a.newest, part.Day)
	}
	for _, p := range a.parts {
		p.Sealed = true
	}
	for id, r := range a.last {
		a.several = a.several || id != own
		if p := a.parts[r.part]; p != nil && (id == own || r.part.Day+later >= a.newest) {
			p.Sealed = false
		}
	}
}

// with returns the account with one more row of ours; the account itself where it has that.
func (a *account) with(own string, r row) *account {
	last := a.last[own]
	if r.batch < last.batch || r.batch == last.batch && (r.events > 0 || r.part == last.part) && last.batch != 0 {
		return a
	}
	b := *a
	b.parts, b.last = maps.Clone(a.parts), maps.Clone(a.last)
	for part, p := range b.parts {
		x := *p
		b.parts[part] = &x
	}
	p := b.parts[r.part]
	if p == nil {
		p = &store.PartStats{Part: r.part, Received: r.part.Day}
		b.parts[r.part] = p
	}
	p.Events, p.Records, p.RawBytes = p.Events+r.events, p.Records+r.records, p.RawBytes+r.bytes
	if r.minMs != 0 && (p.MinMs == 0 || r.minMs < p.MinMs) {
		p.MinMs = r.minMs
	}
	p.MaxMs = max(p.MaxMs, r.maxMs)
	if r.events > 0 {
		p.LastID = r.batch
	}
	if r.again {
		b.again = append(slices.Clip(b.again), repeated{r.part, own, r.batch})
	}
	b.last[own] = r
	b.settle(own)
	return &b
}

// without returns the account without some parts.
func (a *account) without(hidden map[store.Part]bool) *account {
	if len(hidden) == 0 {
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
	b := *a
	b.dropped = maps.Clone(a.dropped)
	if b.dropped == nil {
		b.dropped = map[store.Part]time.Time{}
	}
	b.dropped[part] = time.Now()
	b.hidden = append(slices.Clip(b.hidden), part)
	return &b
}

// partFor returns the part for a batch that is received on a day.
func (a *account) partFor(day store.Day) store.Part {
	part := store.Part{Day: day, N: 1}
	for p := range a.parts {
		if p.Day == day {
			part.N = max(part.N, p.N)
		}
	}
	for p := range a.dropped {
		if p.Day == day && p.N >= part.N {
			part.N = p.N + 1
		}
	}
	return part
}

// stats are the account's sums. What is dropped counts no more, though something of it may be on the disks until nobody reads it: whoever drops days
// until they fit would drop all.
func (a *account) stats() (s store.Stats) {
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
