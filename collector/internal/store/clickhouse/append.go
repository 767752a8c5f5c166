package clickhouse

import (
	"context"
	"fmt"
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
)

// mostTries is how often a batch is stored anew at once where parts of it are dropped meanwhile.
const mostTries = 3

// Append stores a batch's events, then the rows that say in which parts they are, then that it is stored. It says so only once no part of these was dropped before: who drops
// one reads behind its mark which rows are there, and tells of each, so whatever is gone of a batch that is stored is told.
func (e *Engine) Append(ctx context.Context, b *store.Sealed) error {
	a, err := e.begin(ctx)
	if err != nil {
		return err
	}
	defer e.appending.Unlock()
	names, of, err := e.cluster.shards(ctx)
	if err != nil {
		return err
	}
	// What it has now is looked at, and not what it had: tables may have been made anew since.
	w, err := e.present(ctx, names, of, e.delivered())
	if err != nil {
		return err
	}
	if last, had := a.last[e.opts.Store], e.delivered().batch; b.ID <= max(last.batch, had) { // a process died before it knew
		parts, err := e.isStored(ctx, of[names[0]], b, max(last.batch, had), b.ID <= had)
		if err != nil {
			return err
		}
		return e.took(b.ID, parts)
	}
	now := *a
	for tries := 1; ; tries++ {
		now.dropped = w.dropped // also by others, since the account was read
		rows, err := e.storeBatch(ctx, names, of, b, &now)
		if err != nil {
			return fmt.Errorf("store batch %d: %w", b.ID, err)
		}
		// And once more, for they may have been made anew meanwhile: then the batch stays where it is.
		if w, err = e.present(ctx, names, of, latest{batch: b.ID, parts: partsOf(rows)}); err != nil {
			return err
		}
		i := slices.IndexFunc(rows, func(r row) bool { _, gone := w.dropped[r.part]; return gone })
		if i < 0 {
			return e.end(ctx, of[names[0]], b.ID, rows)
		}
		e.opts.Log.Warn("a part was dropped by another collector while a batch was stored in it, which goes to another one: it keeps less than this one, or days by another clock", "part", rows[i].part.String(), "class", rows[i].class, "batch", b.ID, "events", rows[i].events)
		if tries == mostTries {
			return fmt.Errorf("store batch %d: %w: %s was dropped by another collector meanwhile", b.ID, ErrCluster, rows[i].part)
		}
	}
}

// storeBatch stores a batch's events and its rows; appending is held.
func (e *Engine) storeBatch(ctx context.Context, names []string, of map[string][]*node, b *store.Sealed, now *account) ([]row, error) {
	rows, err := e.beginBatch(ctx, of[names[0]], b, now)
	if err != nil {
		return nil, err
	}
	again, err := e.insertEvents(ctx, names, of, b, rows)
	e.begun.again = e.begun.again || again
	if err != nil {
		return nil, err
	}
	for i := range rows {
		rows[i].again = e.begun.again
	}
	return rows, e.writeRows(ctx, of[names[0]], rows)
}

// end says that a batch is stored, and takes its rows into the account; appending is held.
func (e *Engine) end(ctx context.Context, first []*node, batch uint64, rows []row) error {
	if err := e.cluster.insert(ctx, first, "INSERT INTO "+e.cluster.address.Database+".stored (store, batch)", []any{[]string{e.opts.Store}, []uint64{batch}}); err != nil {
		e.unsure.Store(true)
		return fmt.Errorf("say that batch %d is stored: %w", batch, err)
	}
	e.takeIn(rows)
	if e.spareLooked.CompareAndSwap(false, true) {
		e.cluster.meets.Go(func() { e.fillSpare(e.cluster.ctx, first) })
	}
	return e.took(batch, partsOf(rows))
}

// begun is a batch that was begun.
type begun struct {
	batch uint64
	rows  []row // as they are written in the end; those of classes in their order
	again bool  // some of it may have been inserted more than once
}

// beginBatch says to which parts a batch goes: a row for each, with no more than that and the places of its events. One that was begun goes on in the parts in which it was,
// unless those were dropped meanwhile. The first one of a process may have been begun by another one, which has written some of its rows.
func (e *Engine) beginBatch(ctx context.Context, first []*node, b *store.Sealed, now *account) ([]row, error) {
	known := e.begun.batch == b.ID
	if known {
		e.begun.again = true
	} else {
		// Nothing is kept of it before it is known what is there.
		there := map[uint64]row{}
		if e.begun.batch == 0 {
			list, err := e.rowsOf(ctx, first, b.ID)
			if err != nil {
				return nil, err
			}
			for _, r := range list {
				if _, gone := now.dropped[r.part]; !gone { // it may be in one that was dropped, and anew in another one
					there[r.first] = r
				}
			}
		}
		x := begun{batch: b.ID, again: e.begun.batch == 0, rows: []row{{batch: b.ID}}}
		if d := b.Division; d != nil {
			x.rows = make([]row, len(d.Classes))
			for i := range d.Classes {
				c := &d.Classes[i]
				x.rows[i] = row{batch: b.ID, class: c.Name, first: c.First, proof: joined(c.Proof)}
			}
		}
		for i := range x.rows {
			r := &x.rows[i]
			if was, is := there[r.first]; is && was.part.Day == b.Day {
				r.part, r.class = was.part, was.class
			} else {
				r.part, r.class = now.partFor(b.Day, r.class)
			}
		}
		e.begun = x
	}
	for i := range e.begun.rows {
		r := &e.begun.rows[i]
		if _, gone := now.dropped[r.part]; !gone {
			continue
		}
		class := r.class
		if class == store.Undivided && b.Division != nil {
			class = b.Division.Classes[i].Name
		}
		r.part, r.class = now.partFor(b.Day, class)
		e.begun.again = true
	}
	rows := slices.Clone(e.begun.rows)
	for i := range rows {
		rows[i].events, rows[i].records, rows[i].bytes, rows[i].minMs, rows[i].maxMs = 0, 0, 0, 0, 0
	}
	return rows, nil
}

// insertEvents stores a batch's events: each shard's blocks one after the other. It counts them in the rows of their classes.
func (e *Engine) insertEvents(ctx context.Context, names []string, of map[string][]*node, b *store.Sealed, rows []row) (again bool, err error) {
	blocks := make([]*block, len(names))
	for i, name := range names {
		blocks[i] = &block{e: e, day: b.Day, batch: b.ID, nodes: of[name]}
		blocks[i].reset()
	}
	next := places(b)
	insert := func(bl *block) error {
		twice, err := bl.insert(ctx)
		again = again || twice
		return err
	}
	err = b.Each(func(host string, ev *event.Event) error {
		bl := blocks[shardOf(string(ev.Node), ev.Ms, ev.Serial, len(blocks))]
		if bl.n > 0 && (bl.n == blockEvents || bl.size+ev.Size() > blockBytes) {
			if err := insert(bl); err != nil {
				return err
			}
			bl.reset()
		}
		class, place := next()
		bl.add(host, ev, uint32(rows[class].part.N), uint32(place))
		rows[class].count(ev)
		return nil
	})
	for _, bl := range blocks {
		if err == nil {
			err = insert(bl)
		}
	}
	return again, err
}

// places returns what gives each event's class and place.
func places(b *store.Sealed) func() (class int, place uint64) {
	if b.Division != nil {
		return b.Division.Places()
	}
	n := uint64(0)
	return func() (int, uint64) { n++; return 0, n - 1 }
}
