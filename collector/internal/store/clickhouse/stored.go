package clickhouse

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
)

// latest is a collector's last batch, and the parts in which its events and what came behind it went: of each class the last one.
type latest struct {
	batch uint64
	parts []store.Part
	// bare says that no row is left of the batch, and the parts are those of an earlier one.
	bare bool
}

// day returns the day of the last batch; false where it is not known.
func (l latest) day() (store.Day, bool) {
	if len(l.parts) == 0 {
		return 0, false
	}
	return l.parts[0].Day, true
}

// last reads which batches of each collector are the last that are stored; seen are those of an earlier reading. Of the one behind it there may be rows: it is stored again, or its collector is away.
func (c *servers) last(ctx context.Context, first *shard, seen map[string]latest) (all map[string]latest, err error) {
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
	found := map[string]bool{}
	err = first.ask(ctx, "SELECT store, max(batch), maxIf(batch, "+upTo(all)+") FROM "+db+".batches WHERE "+behind(seen, "")+" GROUP BY store", func() { list = nil; clear(found) }, func(scan func(...any) error) error {
		var id string
		var most, stored uint64
		err := scan(&id, &most, &stored)
		if _, is := all[id]; !is {
			all[id] = latest{}
		}
		found[id] = stored > 0
		list = append(list, fmt.Sprintf("(%s, %d)", quote(id), stored), fmt.Sprintf("(%s, %d)", quote(id), most))
		return err
	})
	for id, l := range seen {
		if err == nil && len(l.parts) > 0 && !l.bare && !found[id] { // the last one's are dropped: there may be some of one before
			return c.last(ctx, first, nil)
		}
	}
	if err != nil {
		return nil, err
	}
	rows, err := c.written(ctx, first, list)
	for id, l := range all {
		parts, most := writtenOf(rows[id])
		all[id] = latest{l.batch, parts, len(parts) > 0 && most < l.batch}
		if was := seen[id]; len(parts) == 0 && was.bare && was.batch == l.batch { // there was none behind it
			all[id] = was
		}
	}
	return all, err
}

// written reads which parts batches are in, each of them "(store, batch)", by store.
func (c *servers) written(ctx context.Context, first *shard, list []string) (rows map[string][]row, err error) {
	if len(list) == 0 {
		return nil, nil
	}
	err = first.ask(ctx, "SELECT store, batch, day, part, class FROM "+c.address.Database+".batches WHERE (store, batch) IN ("+strings.Join(slices.Compact(list), ", ")+")", func() { rows = map[string][]row{} }, func(scan func(...any) error) error {
		var id string
		var r row
		var day int32
		var n uint32
		err := scan(&id, &r.batch, &day, &n, &r.class)
		r.part = store.Part{Day: dayOf(day), N: int(n)}
		rows[id] = append(rows[id], r)
		return err
	})
	return rows, err
}

// behind is what rows of batches meet that are not of a batch before the last one of its collector; of that one only those that meet more, where
// that is not empty, with the batch's number in it.
func behind(seen map[string]latest, more string) string {
	if len(seen) == 0 {
		return "1"
	}
	var list, ids []string
	for _, id := range slices.Sorted(maps.Keys(seen)) {
		sql := fmt.Sprintf("store = %s AND batch >= %d", quote(id), seen[id].batch)
		if more != "" {
			sql += fmt.Sprintf(more, seen[id].batch)
		}
		list, ids = append(list, "("+sql+")"), append(ids, id)
	}
	return "(" + strings.Join(list, " OR ") + " OR store NOT IN (" + quoteAll(ids) + "))"
}

// writtenOf returns the parts that rows of a collector's last batches say are written: of the day of the last of them, the last one of each class. most is that batch.
func writtenOf(rows []row) (parts []store.Part, most uint64) {
	day := store.Day(0)
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
	return slices.SortedFunc(maps.Values(by), store.Part.Compare), most
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

// isStored returns the parts of a batch that comes again: there are rows of it, with what it has, or these are gone with parts that were dropped since, as is told, or as may be
// of one that is known to have been taken. Any other batch that has no number of its own would be lost if it were taken for one that is there: that is an error.
func (e *Engine) isStored(ctx context.Context, first []*node, b *store.Sealed, last uint64, taken bool) (parts []store.Part, err error) {
	rows := make([]row, 1)
	if b.Division != nil {
		rows = make([]row, len(b.Division.Classes))
	}
	next := places(b)
	err = b.Each(func(_ string, ev *event.Event) error {
		class, _ := next()
		rows[class].count(ev)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, at := 0, uint64(0); i < len(rows); i++ {
		rows[i].batch, rows[i].first = b.ID, at
		at += rows[i].events
	}
	have, err := e.rowsOf(ctx, first, b.ID)
	if err != nil {
		return nil, fmt.Errorf("look whether batch %d is stored: %w", b.ID, err)
	}
	other := slices.ContainsFunc(have, func(r row) bool {
		r.part, r.class = store.Part{}, ""
		return !slices.Contains(rows, r)
	})
	parts = partsOf(have)
	drops, err := e.dropsOf(ctx, first, e.opts.Store)
	if err != nil {
		return nil, err
	}
	for _, d := range drops {
		if d.Part.Day == b.Day && d.First <= b.ID && b.ID <= d.Last {
			parts = append(parts, d.Part)
		}
	}
	if other || len(parts) == 0 && !taken {
		return nil, fmt.Errorf("store batch %d: %w: the last one is %d", b.ID, ErrCopied, last)
	}
	return parts, nil
}
