package clickhouse

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// An account is read behind the one before: rows of batches that were stored since, and what begins behind the last one, are added to what was there, for the rows of a batch that is
// stored never change. So a reading costs what has come since, and not all that is stored: of six million rows, three months of 10,000 hosts, all take a quarter of a minute. What goes, goes by
// parts, and is marked. Now and then all is read all the same, for somebody may have changed the tables by hand.

// wholeTime is after how long all is read again.
const wholeTime = 6 * time.Hour

// accountBase is what the next account is read behind: an account as the rows say it, marked parts included.
type accountBase struct {
	at     time.Time // when all was read
	last   map[string]latest
	parts  map[store.Part]*store.PartStats
	again  []repeated
	marked map[store.Part]time.Time
}

// account reads the account, behind was, and returns what the next one is read behind. nil: all.
func (c *servers) account(ctx context.Context, own string, names []string, of map[string][]*node, was *accountBase) (*account, *accountBase, error) {
	a := &account{read: time.Now()}
	first := c.shard(of[names[0]])
	if was != nil && time.Since(was.at) > wholeTime {
		was = nil
	}
	var err error
	if a.last, err = c.last(ctx, first, was.seen()); err != nil {
		return nil, nil, fmt.Errorf("read which batches there are: %w", err)
	}
	for id, l := range was.seen() {
		if a.last[id].batch < l.batch { // an older copy of the tables
			return c.account(ctx, own, names, of, nil)
		}
	}
	since := behind(was.seen(), " AND (batch > %d OR events = 0)") // without events they begin another part behind the last batch
	added, err := c.partsSince(ctx, own, first, "("+upTo(a.last)+") AND "+since)
	if err != nil {
		return nil, nil, fmt.Errorf("read which parts there are: %w", err)
	}
	again, err := c.againSince(ctx, first, since)
	if err != nil {
		return nil, nil, fmt.Errorf("read which batches were inserted again: %w", err)
	}
	base := &accountBase{at: a.read, last: a.last, parts: map[store.Part]*store.PartStats{}, again: again}
	if was != nil {
		gone, err := c.deleted(ctx, first, was)
		if err != nil {
			return nil, nil, fmt.Errorf("read which parts are left: %w", err)
		}
		for _, l := range a.last {
			if l.bare && slices.ContainsFunc(l.parts, func(part store.Part) bool { return gone[part] }) { // there may be some of a batch before
				return c.account(ctx, own, names, of, nil)
			}
		}
		base.at, base.parts = was.at, copyParts(was.parts)
		maps.DeleteFunc(base.parts, func(part store.Part, _ *store.PartStats) bool { return gone[part] })
		of := slices.DeleteFunc(slices.Clone(was.again), func(r repeated) bool { return gone[r.part] })
		base.again = append(of, again...)
	}
	for _, p := range added {
		addPart(base.parts, p)
	}
	a.again, a.parts = base.again, copyParts(base.parts)
	if err := c.sizes(ctx, a, names, of); err != nil {
		return nil, nil, err
	}
	return a, base, nil
}

// seen is up to which batches rows were read; nil: none were.
func (b *accountBase) seen() map[string]latest {
	if b == nil {
		return nil
	}
	return b.last
}

// partsSince adds up the rows of batches that meet a condition, by parts.
func (c *servers) partsSince(ctx context.Context, own string, first *shard, since string) (list []*store.PartStats, err error) {
	sql := "SELECT day, part, min(class), max(class), sum(e), sum(r), sum(b), minIf(lo, lo != 0), max(hi), maxIf(batch, store = " + quote(own) + " AND e > 0) FROM " +
		"(SELECT store, batch, day, part, first, any(class) AS class, any(events) AS e, any(records) AS r, any(bytes) AS b, any(min_ms) AS lo, any(max_ms) AS hi FROM " + c.address.Database + ".batches WHERE " + since +
		" GROUP BY store, batch, day, part, first) GROUP BY day, part"
	err = first.ask(ctx, sql, func() { list = nil }, func(scan func(...any) error) error {
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
		list = append(list, p)
		return err
	})
	return list, err
}

// copyParts returns the parts as they are, to be changed.
func copyParts(parts map[store.Part]*store.PartStats) map[store.Part]*store.PartStats {
	out := make(map[store.Part]*store.PartStats, len(parts))
	for part, p := range parts {
		x := *p
		out[part] = &x
	}
	return out
}

// addPart adds more of a part to what there is of it.
func addPart(parts map[store.Part]*store.PartStats, more *store.PartStats) {
	p := parts[more.Part]
	if p == nil {
		parts[more.Part] = more
		return
	}
	if p.Class != more.Class {
		p.Class = store.Undivided
	}
	p.Events, p.Records, p.RawBytes = p.Events+more.Events, p.Records+more.Records, p.RawBytes+more.RawBytes
	if more.MinMs != 0 && (p.MinMs == 0 || more.MinMs < p.MinMs) {
		p.MinMs = more.MinMs
	}
	p.MaxMs, p.LastID = max(p.MaxMs, more.MaxMs), max(p.LastID, more.LastID)
}

// againSince reads which batches may be there twice, of the rows that meet a condition.
func (c *servers) againSince(ctx context.Context, first *shard, since string) (list []repeated, err error) {
	err = first.ask(ctx, "SELECT DISTINCT day, part, store, batch FROM "+c.address.Database+".batches WHERE again = 1 AND "+since, func() { list = nil }, func(scan func(...any) error) error {
		var day int32
		var n uint32
		var r repeated
		err := scan(&day, &n, &r.store, &r.batch)
		r.part = store.Part{Day: dayOf(day), N: int(n)}
		list = append(list, r)
		return err
	})
	return list, err
}

// deleted reads which of the marked parts of an earlier reading are there no more.
func (c *servers) deleted(ctx context.Context, first *shard, was *accountBase) (gone map[store.Part]bool, err error) {
	var list []string
	for part := range was.parts {
		if _, is := was.marked[part]; is {
			list = append(list, fmt.Sprintf("(%d, %d)", dayNumber(part.Day), part.N))
		}
	}
	if len(list) == 0 {
		return nil, nil
	}
	sql := "SELECT DISTINCT day, part FROM " + c.address.Database + ".batches WHERE (day, part) IN (" + strings.Join(list, ", ") + ")"
	all := func() {
		gone = map[store.Part]bool{}
		for part := range was.parts {
			if _, is := was.marked[part]; is {
				gone[part] = true
			}
		}
	}
	err = first.ask(ctx, sql, all, func(scan func(...any) error) error {
		var day int32
		var n uint32
		err := scan(&day, &n)
		delete(gone, store.Part{Day: dayOf(day), N: int(n)})
		return err
	})
	return gone, err
}

// sizes adds what the parts take on the disks of one replica of each shard.
func (c *servers) sizes(ctx context.Context, a *account, names []string, of map[string][]*node) error {
	a.there = map[store.Part]bool{}
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
		for name := range sizes {
			var day int32
			var part store.Part
			if _, err := fmt.Sscanf(name, "(%d,%d)", &day, &part.N); err == nil {
				part.Day = dayOf(day)
				a.there[part] = true
			}
		}
	}
	return nil
}
