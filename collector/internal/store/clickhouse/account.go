package clickhouse

import (
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// The first shard has rows of each batch, one for each part that it is in: what of it there is in all shards together. They are written behind its events, and behind them
// the collector says, in a table of which nothing is ever dropped, that the batch is stored. Batches come one after the other, so that says it of all before, too. Whoever goes
// by this never sees half a batch, nor loses one of whose parts some are dropped.

// row is what a part has of a batch. One without events begins another part of a day, with the number of the batch before.
type row struct {
	part           store.Part
	batch          uint64
	class          string // of the part; "": the batch is not divided
	first          uint64 // the place of the first event
	events         uint64
	records, bytes uint64
	minMs, maxMs   int64
	again          bool   // some of it may have been inserted more than once: there may be rows with the same key
	proof          string // the hashes that complete the root around these events, one after the other
}

// latest is a collector's last batch, and the parts in which its events and what came behind it went: of each class the last one.
type latest struct {
	batch uint64
	parts []store.Part
}

// day returns the day of the last batch; false where it is not known.
func (l latest) day() (store.Day, bool) {
	if len(l.parts) == 0 {
		return 0, false
	}
	return l.parts[0].Day, true
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
	last    map[string]latest        // of each place, by its ID
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

// last reads which batches of each collector are the last that are stored. Of the one behind it there may be rows: it is stored again, or its collector is away.
func (c *servers) last(ctx context.Context, first *shard) (all map[string]latest, err error) {
	db := c.address.Database
	err = first.ask(ctx, "SELECT store, max(batch) FROM "+db+".stored GROUP BY store", func() { all = map[string]latest{} }, func(scan func(...any) error) error {
		var id string
		var l latest
		err := scan(&id, &l.batch)
		all[id] = l
		return err
	})
	if err != nil {
		return nil, err
	}
	// Of which the parts are written: of the last batch of which there are rows, and of the last one of these that is stored.
	var list []string
	err = first.ask(ctx, "SELECT store, max(batch), maxIf(batch, "+upTo(all)+") FROM "+db+".batches GROUP BY store", func() { list = nil }, func(scan func(...any) error) error {
		var id string
		var most, stored uint64
		err := scan(&id, &most, &stored)
		if _, is := all[id]; !is {
			all[id] = latest{}
		}
		list = append(list, fmt.Sprintf("(%s, %d)", quote(id), stored), fmt.Sprintf("(%s, %d)", quote(id), most))
		return err
	})
	if err != nil || len(list) == 0 {
		return all, err
	}
	var rows map[string][]row
	err = first.ask(ctx, "SELECT store, batch, day, part, class FROM "+db+".batches WHERE (store, batch) IN ("+strings.Join(slices.Compact(list), ", ")+")", func() { rows = map[string][]row{} }, func(scan func(...any) error) error {
		var id string
		var r row
		var day int32
		var n uint32
		err := scan(&id, &r.batch, &day, &n, &r.class)
		r.part = store.Part{Day: dayOf(day), N: int(n)}
		rows[id] = append(rows[id], r)
		return err
	})
	for id, l := range all {
		all[id] = latest{batch: l.batch, parts: writtenOf(rows[id])}
	}
	return all, err
}

// writtenOf returns the parts that rows of a collector's last batches say are written: of the day of the last of them, the last one of each class.
func writtenOf(rows []row) (parts []store.Part) {
	most, day := uint64(0), store.Day(0)
	for _, r := range rows {
		if r.batch >= most {
			most, day = r.batch, r.part.Day
		}
	}
	by := map[string]store.Part{}
	for _, r := range rows {
		if was, is := by[r.class]; r.part.Day == day && (!is || was.N < r.part.N) {
			by[r.class] = r.part
		}
	}
	return slices.SortedFunc(maps.Values(by), store.Part.Compare)
}

// upTo is what rows of batches meet that are in an account.
func upTo(last map[string]latest) string {
	list := []string{}
	for _, id := range slices.Sorted(maps.Keys(last)) {
		list = append(list, fmt.Sprintf("(store = %s AND batch <= %d)", quote(id), last[id].batch))
	}
	if len(list) == 0 {
		return "0"
	}
	return strings.Join(list, " OR ")
}

// account reads the account.
func (c *servers) account(ctx context.Context, own string, names []string, of map[string][]*node) (*account, error) {
	a := &account{read: time.Now(), parts: map[store.Part]*store.PartStats{}}
	db, first := c.address.Database, c.shard(of[names[0]])
	var err error
	if a.last, err = c.last(ctx, first); err != nil {
		return nil, fmt.Errorf("read which batches there are: %w", err)
	}
	err = first.ask(ctx, "SELECT day, part, min(class), max(class), sum(e), sum(r), sum(b), minIf(lo, lo != 0), max(hi), maxIf(batch, store = "+quote(own)+" AND e > 0) FROM "+
		"(SELECT store, batch, day, part, first, any(class) AS class, any(events) AS e, any(records) AS r, any(bytes) AS b, any(min_ms) AS lo, any(max_ms) AS hi FROM "+db+".batches WHERE "+upTo(a.last)+
		" GROUP BY store, batch, day, part, first) GROUP BY day, part",
		func() { clear(a.parts) },
		func(scan func(...any) error) error {
			var day int32
			var n uint32
			var class string
			p := &store.PartStats{}
			err := scan(&day, &n, &p.Class, &class, &p.Events, &p.Records, &p.RawBytes, &p.MinMs, &p.MaxMs, &p.LastID)
			p.Part = store.Part{Day: dayOf(day), N: int(n)}
			p.Received = p.Day
			if p.Class != class { // two collectors began it at the same time
				p.Class = store.Undivided
			}
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

// lastOf returns the number of the last part of each class of a day.
func (a *account) lastOf(day store.Day) map[string]int {
	of := map[string]int{}
	for part, p := range a.parts {
		if part.Day == day {
			of[p.Class] = max(of[p.Class], part.N)
		}
	}
	return of
}

// with returns the account with the rows of one more batch of ours, or of what begins behind the last one; the account itself where it has these.
func (a *account) with(own string, rows []row) *account {
	last, r := a.last[own], rows[0]
	if r.batch < last.batch || r.batch == last.batch && last.batch != 0 && !slices.ContainsFunc(rows, func(r row) bool { return r.events == 0 && !slices.Contains(last.parts, r.part) }) {
		return a
	}
	b := *a
	b.parts, b.last = maps.Clone(a.parts), maps.Clone(a.last)
	if b.last == nil {
		b.last = map[string]latest{}
	}
	for part, p := range b.parts {
		x := *p
		b.parts[part] = &x
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
	b.last[own] = latest{r.batch, writtenOf(written)}
	b.settle(own)
	return &b
}

// add adds a row of ours to parts that nobody else has.
func (a *account) add(own string, r *row) {
	p := a.parts[r.part]
	if p == nil {
		p = &store.PartStats{Part: r.part, Received: r.part.Day, Class: r.class}
		a.parts[r.part] = p
	}
	if p.Class != r.class {
		p.Class = store.Undivided
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
		a.again = append(slices.Clip(a.again), repeated{r.part, own, r.batch})
	}
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

// A part has events of one class. Which numbers the parts of a class have follows from its name, so that collectors that begin one at the same time take the same, and never
// one of another class but by a rare chance: then what is in it is kept as what is of no class that is known.
const (
	// ofClass is how many parts of a day a class may have before another number is taken, and the first numbers are those of batches that are not divided.
	ofClass = 1000
	// classNumbers is how many numbers there are.
	classNumbers = 2_000_000
	// mostParts is how many parts a day may have. What is of further classes, whose names come and go, goes to one of all of these.
	mostParts = 200
)

// classNumber is the first number that a class's parts may have, divided by ofClass.
func classNumber(class string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(class)) // never fails
	return ofClass + int(h.Sum32()%(classNumbers-ofClass))
}

// partFor returns the part for what is received on a day and is of a class, and of which class that part is.
func (a *account) partFor(day store.Day, class string) (store.Part, string) {
	if class == "" {
		return a.next(day, 1, ofClass*ofClass), ""
	}
	of := a.lastOf(day)
	if _, is := of[class]; !is && class != store.Undivided && len(of) >= mostParts {
		class = store.Undivided
	}
	for k := classNumber(class); ; k++ {
		if k == classNumbers {
			k = ofClass
		}
		if part := a.next(day, k*ofClass, (k+1)*ofClass); part.N < (k+1)*ofClass && (a.parts[part] == nil || a.parts[part].Class == class) {
			return part, class
		}
	}
}

// next returns the last part of a day with a number from one to before another, or the one behind it where that is dropped.
func (a *account) next(day store.Day, from, to int) store.Part {
	part := store.Part{Day: day, N: from}
	for p := range a.parts {
		if p.Day == day && p.N >= from && p.N < to {
			part.N = max(part.N, p.N)
		}
	}
	for p := range a.dropped {
		if p.Day == day && p.N >= part.N && p.N < to {
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
