package head

import (
	"context"
	"errors"
	"fmt"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Scan gives fn the matching events of store and memory together, in order; see
// store.Snapshot. All that was acknowledged before it began is seen, an event that is not
// complete as far as it has come, but where the query asks for batches (see withOpen);
// ErrBehind, at the end, says that this could not be had.
func (h *Head) Scan(ctx context.Context, q *query.Query, fn func(*event.Event) error) error {
	behind, err := h.catchUp(ctx)
	if err != nil {
		return err
	}
	give, pager, open := q.Limited(fn), (*query.Pager)(nil), withOpen(q)
	if q.Batches || q.After != nil {
		pager, q = q.Paged(fn)
		give = pager.Event
	}
	err = h.scan(ctx, h.also(q), open, give)
	if pager != nil && (err == nil || errors.Is(err, store.ErrDamaged)) {
		if perr := pager.Done(); perr != nil {
			return perr
		}
	}
	if err == nil || errors.Is(err, store.ErrDamaged) {
		err = errors.Join(err, behind)
	}
	return err
}

// catchUp waits, within bounds, until what is acknowledged now can be searched;
// behind is why it cannot.
func (h *Head) catchUp(ctx context.Context) (behind, err error) {
	if h.j == nil {
		return nil, ctx.Err()
	}
	lsn := h.j.Last()
	within, cancel := context.WithTimeout(ctx, h.opts.SearchWait)
	defer cancel()
	err = h.waitProcessed(within, lsn)
	if err == nil || ctx.Err() != nil {
		return nil, ctx.Err()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stats.SearchesBehind++
	behind = fmt.Errorf("%w: %d of them after %v", ErrBehind, lsn-min(lsn, h.processed), h.opts.SearchWait)
	if h.stats.StoreError != nil {
		behind = fmt.Errorf("%w: %w", behind, h.stats.StoreError)
	}
	return behind, nil
}

func (h *Head) scan(ctx context.Context, q *query.Query, open bool, fn func(*event.Event) error) (err error) {
	now, snap, err := h.moment(ctx, q, open)
	if err != nil {
		return fmt.Errorf("search the store: %w", err)
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	err = answer(ctx, q, snap, now.selectFrom(q, snap), fn)
	if err == nil || errors.Is(err, store.ErrDamaged) {
		err = errors.Join(err, errors.Join(h.damage...))
	}
	return err
}

// Tally implements query.Source. With fields, it fails with ErrBehind where Scan gives
// what there is.
func (h *Head) Tally(ctx context.Context, q *query.Query, fields []query.Field, rest func(*event.Event) error) (sum *query.Tally, err error) {
	switch {
	case len(fields) == 0:
		return h.count(ctx, q)
	case !q.Countable() || q.Limit > 0:
		return nil, fmt.Errorf("%w: the values of fields are counted of hosts, senders and times only", query.ErrQuery)
	}
	return h.tally(ctx, q, fields, rest)
}

// count is Tally without fields: from the index where that has it, else by a scan, which
// also gives what there is of a damaged store.
func (h *Head) count(ctx context.Context, q *query.Query) (*query.Tally, error) {
	if q.Countable() {
		n := int64(0)
		if sum, err := h.tally(ctx, q, nil, func(*event.Event) error { n++; return nil }); err == nil {
			sum.Events += n
			if q.Limit > 0 {
				sum.Events = int64(min(uint64(sum.Events), q.Limit))
			}
			return sum, nil
		}
	}
	sum := query.NewTally(nil, nil)
	return sum, h.Scan(ctx, q, func(*event.Event) error { sum.Events++; return nil })
}

func (h *Head) tally(ctx context.Context, q *query.Query, fields []query.Field, rest func(*event.Event) error) (sum *query.Tally, err error) {
	q = h.also(q)
	behind, err := h.catchUp(ctx)
	if err = errors.Join(err, behind, errors.Join(h.damage...)); err != nil {
		return nil, err
	}
	now, snap, err := h.moment(ctx, q, withOpen(q))
	if err != nil {
		return nil, fmt.Errorf("count in the store: %w", err)
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	sum, err = snap.Tally(ctx, q, fields, rest)
	if err != nil {
		return nil, err
	}
	for _, t := range now.tables {
		if t.id > max(snap.LastID(), q.AfterBatch) {
			if err := t.view.Tally(q, fields, sum, rest); err != nil {
				return nil, err
			}
		}
	}
	m := query.NewMatcher(q)
	for i := range now.open {
		if ev := now.open[i].Event(); m.Match(ev) {
			if err := rest(ev); err != nil {
				return nil, err
			}
		}
	}
	return sum, nil
}

// OpenReadOnly looks at a store that no server uses: what it holds, and what the
// journal in o's folder holds beyond it, which is parsed into memory. Nothing is
// written. Of Options, Place, Events and what bounds memory matter.
func OpenReadOnly(o Options, jo journal.Options) (*Head, error) {
	o.defaults()
	h := newHead(o)
	h.replaying = true
	state, err := h.load()
	if err != nil {
		return nil, err
	}
	// No flush takes tables here, so they are only put in a row.
	damage, err := journal.ReadOnly(jo, journal.Place{LSN: state.LSN, Open: state.Open}, func(b *journal.Batch) error {
		if b.LSNs() == 0 || b.Last() <= h.storedLSN && len(h.open) == 0 {
			return nil
		}
		h.feed(b)
		h.relieve()
		return nil
	})
	if err != nil {
		// The store can be searched all the same.
		damage = append(damage, err)
	}
	for _, err := range damage {
		h.damage = append(h.damage, fmt.Errorf("%w: %w", store.ErrDamaged, err))
	}
	for st := range h.openStreams {
		st.asm.Flush()
	}
	return h, nil
}
