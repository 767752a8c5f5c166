package clickhouse

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/auditfleet/auditfleet/collector/internal/eventtree"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
)

var _ store.Rereader = (*Engine)(nil)

// Reread implements store.Rereader: one statement a shard for as many batches as a statement may name. Rows come in any order and are hashed as
// they come, so neither the server sorts them nor does anybody keep a text.
func (e *Engine) Reread(ctx context.Context, list []*store.Reread, columns bool) error {
	names, of, err := e.cluster.shards(ctx)
	if err != nil {
		return err
	}
	for some := range slices.Chunk(list, maxList) {
		byID := make(map[uint64]*store.Reread, len(some))
		for _, r := range some {
			r.Begin()
			byID[r.Batch] = r
		}
		for _, name := range names {
			if err := e.reread(ctx, name, of[name], byID, names, columns); err != nil {
				return fmt.Errorf("read batches again: %w", err)
			}
		}
		if err := e.around(ctx, of[names[0]], byID); err != nil {
			return fmt.Errorf("read what batches are made of: %w", err)
		}
	}
	// Behind it: what was dropped meanwhile is not missing. It is also what says that this is the cluster that took them.
	drops, err := e.dropsOf(ctx, of[names[0]], e.opts.Store)
	if err != nil {
		return err
	}
	w, err := e.verify(ctx, names, of)
	if err != nil {
		return err
	}
	drops = marked(drops, w.dropped)
	for _, r := range list {
		for _, d := range drops {
			if d.Part.Day == r.Day && d.First <= r.Batch && r.Batch <= d.Last {
				r.Drops = append(r.Drops, d)
			}
		}
	}
	return nil
}

// around reads what completes the roots of batches that are divided.
func (e *Engine) around(ctx context.Context, first []*node, byID map[uint64]*store.Reread) error {
	ids := make([]string, 0, len(byID))
	for id := range byID {
		ids = append(ids, strconv.FormatUint(id, 10))
	}
	slices.Sort(ids)
	type part struct {
		batch uint64
		store.Divided
	}
	var list []part
	sql := "SELECT DISTINCT batch, class, first, events, proof FROM " + e.cluster.address.Database + ".batches WHERE store = " + quote(e.opts.Store) + " AND proof != '' AND events > 0 AND batch IN (" + strings.Join(ids, ", ") + ")"
	err := e.cluster.ask(ctx, first, sql, func() { list = nil }, func(scan func(...any) error) error {
		var p part
		var proof string
		err := scan(&p.batch, &p.Name, &p.First, &p.Events, &proof)
		for ; len(proof) >= 32; proof = proof[32:] {
			p.Proof = append(p.Proof, [32]byte([]byte(proof[:32])))
		}
		list = append(list, p)
		return err
	})
	for _, p := range list {
		if r := byID[p.batch]; r != nil && len(r.Around) < maxAround {
			r.Around = append(r.Around, p.Divided)
		}
	}
	return err
}

// maxAround is how many parts of a batch are looked at: more than it can have.
const maxAround = 1000

// againRow is an event of a batch. They are kept until the shard has answered: a server that fails in mid-answer must leave nothing of it.
type againRow struct {
	r           *store.Reread
	place       uint64
	hash, mixed eventtree.Hash
	altered     bool
}

// reread reads the rows of one shard.
func (e *Engine) reread(ctx context.Context, name string, nodes []*node, byID map[uint64]*store.Reread, shards []string, columns bool) error {
	var ids []string
	var from, to store.Day
	most := uint64(0)
	for id, r := range byID {
		if len(ids) == 0 {
			from, to = r.Day, r.Day
		}
		ids, from, to = append(ids, strconv.FormatUint(id, 10)), min(from, r.Day), max(to, r.Day)
		most += r.Events
	}
	slices.Sort(ids) // one question is always the same statement
	db := e.cluster.address.Database
	sql := "SELECT " + read + ", day, part, size, apart"
	if columns {
		for _, f := range indexed {
			sql += ", " + column(f)
		}
		sql += ", " + others
	}
	sql += rowsOf(db+".events", []string{fmt.Sprintf("day >= %d AND day <= %d", dayNumber(from), dayNumber(to)), "batch IN (" + strings.Join(ids, ", ") + ")"}, []string{"store = " + quote(e.opts.Store)})
	// Rows that were inserted again are there twice until they are merged. What is more than that somebody has put in: it is counted and not kept.
	most = 4*most + 1000
	var rows []againRow
	more := map[*store.Reread]uint64{}
	x := newRowReader(e, name, shards, columns)
	err := e.cluster.ask(ctx, nodes, sql, func() { rows = rows[:0]; clear(more) }, func(scan func(...any) error) error {
		if err := scan(x.into...); err != nil {
			return err
		}
		r := byID[x.batch]
		switch {
		case r == nil:
			return nil
		case uint64(len(rows)) >= most, uint64(x.seq) >= r.Events:
			more[r]++
			return nil
		}
		row := againRow{r: r, place: uint64(x.seq)}
		row.hash, row.mixed, row.altered = x.hash()
		row.altered = row.altered || dayOf(x.day) != r.Day
		rows = append(rows, row)
		return nil
	})
	if err != nil {
		return err
	}
	for i := range rows {
		row := &rows[i]
		row.r.Add(row.place, row.hash, row.mixed)
		if row.altered {
			row.r.Altered++
		}
	}
	for r, n := range more {
		r.Strange += n
	}
	return nil
}

// rowReader takes a row, and hashes its event.
type rowReader struct {
	into      []any
	shard, of int // which shard it is, of how many

	ms, received              int64
	node, id, host            string
	serial, batch             uint64
	seq, part, size           uint32
	counted, transport, apart uint8
	text, later, addr, proved string
	day                       int32
	one                       []string
	list                      [][]string
	others                    []string

	hasher eventtree.Hasher
	ev     event.Event
	times  []int64
	block  *block // of the columns as they are to be; nil: they are not looked at
}

func newRowReader(e *Engine, name string, shards []string, columns bool) *rowReader {
	x := &rowReader{shard: slices.Index(shards, name), of: len(shards)}
	x.into = []any{&x.ms, &x.node, &x.serial, &x.batch, &x.id, &x.seq, &x.host, &x.counted, &x.text, &x.received, &x.later, &x.transport, &x.addr, &x.proved, &x.day, &x.part, &x.size, &x.apart}
	if !columns {
		return x
	}
	x.block = &block{e: e}
	x.one, x.list = make([]string, len(indexed)), make([][]string, len(indexed))
	for i, f := range indexed {
		if several(f) {
			x.into = append(x.into, &x.list[i])
		} else {
			x.into = append(x.into, &x.one[i])
		}
	}
	x.into = append(x.into, &x.others)
	return x
}

// hash returns the hash of the event that the row has, by its host and by the name that it goes by, and whether the row says otherwise than the event's text.
func (x *rowReader) hash() (hash, mixed eventtree.Hash, altered bool) {
	o := store.Origin{Received: x.received, Later: x.later}
	sender, err := from(x.transport, x.addr, x.proved)
	altered = err != nil // an address that is none
	o.From = sender
	store.ParseInto(&x.ev, []byte(x.text), x.counted != 0, []byte(x.host), o)
	e := eventtree.Event{Host: x.host, From: x.ev.From, Counted: x.counted != 0, Text: []byte(x.text)}
	x.times = eventtree.AppendReceipts(x.times[:0], &x.ev)
	e.Receipts = x.times
	hash = x.hasher.Event(&e)
	mixed = hash
	if x.host == "" {
		e.Host = string(x.ev.Node)
		mixed = x.hasher.Event(&e)
	}
	altered = altered || x.ms != x.ev.Ms || x.serial != x.ev.Serial || x.node != string(x.ev.Node) || x.size != uint32(len(x.text)) ||
		shardOf(x.node, x.ms, x.serial, x.of) != x.shard
	return hash, mixed, altered || x.block != nil && x.strayed()
}

// strayed reports whether the row's columns of fields are others than its event's.
func (x *rowReader) strayed() bool {
	x.block.reset()
	x.block.add(x.host, &x.ev, x.part, x.seq)
	if x.apart != x.block.apart[0] || !slices.Equal(x.others, x.block.others[0]) {
		return true
	}
	for i, f := range indexed {
		if several(f) && !slices.Equal(x.list[i], x.block.list[i][0]) || !several(f) && x.one[i] != x.block.one[i][0] {
			return true
		}
	}
	return false
}

// Counts implements store.Rereader.
func (e *Engine) Counts(ctx context.Context, from, to store.Day) (map[uint64][]store.Counted, error) {
	names, of, err := e.cluster.shards(ctx)
	if err != nil {
		return nil, err
	}
	w, err := e.cluster.word(ctx, of[names[0]])
	if err != nil {
		return nil, err
	}
	seen := []string{"store = " + quote(e.opts.Store)}
	for _, part := range slices.SortedFunc(maps.Keys(w.dropped), store.Part.Compare) {
		if part.Day >= from && part.Day <= to { // of it there may be some rows, of some shards
			seen = append(seen, fmt.Sprintf("NOT (day = %d AND part = %d)", dayNumber(part.Day), part.N))
		}
	}
	type place struct {
		batch uint64
		day   int32
		part  uint32
	}
	all := map[place]store.Counted{}
	for _, name := range names {
		some := map[place]store.Counted{}
		sql := "SELECT batch, day, part, min(seq), max(seq), count()" + rowsOf(e.cluster.address.Database+".events", []string{fmt.Sprintf("day >= %d AND day <= %d", dayNumber(from), dayNumber(to))}, seen) + " GROUP BY batch, day, part"
		err := e.cluster.ask(ctx, of[name], sql, func() { clear(some) }, func(scan func(...any) error) error {
			var p place
			var c store.Counted
			var first, last uint32
			err := scan(&p.batch, &p.day, &p.part, &first, &last, &c.Events)
			c.First, c.Last = uint64(first), uint64(last)
			if some[p] = c; err == nil && len(some) > maxBatches {
				err = fmt.Errorf("%w: there are more than %d batches of these days: ask for fewer", ErrCluster, maxBatches)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("count what there is of batches: %w", err)
		}
		for p, c := range some {
			if was, is := all[p]; is {
				c.First, c.Last, c.Events = min(c.First, was.First), max(c.Last, was.Last), c.Events+was.Events
			}
			all[p] = c
		}
	}
	out := map[uint64][]store.Counted{}
	for p, c := range all {
		out[p.batch] = append(out[p.batch], c)
	}
	_, err = e.verify(ctx, names, of)
	return out, err
}

// maxBatches is how many batches are counted at once: some years of one a minute.
const maxBatches = 4 << 20
