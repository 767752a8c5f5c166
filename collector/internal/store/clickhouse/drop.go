package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// drop is a part that is gone for whoever asks from now on, and is deleted once the snapshots from before are closed.
type drop struct {
	part           store.Part
	class, by, why string
	at             time.Time           // by the servers' clock
	told           map[string]*telling // what collectors were told with its mark, by store
	marked         time.Time           // by this process's own time
	until          uint64              // the number of the last of these snapshots
}

// hidden are the parts that are dropped and not deleted yet; mu is held.
func (e *Engine) hidden() map[store.Part]bool {
	h := map[store.Part]bool{}
	for _, d := range e.drops {
		h[d.part] = true
	}
	return h
}

// Drop deletes a part in all shards. One that snapshots read is deleted when they are closed; where a collector dies before, another one deletes it a day later.
func (e *Engine) Drop(ctx context.Context, part store.Part, why string) error {
	_, err := e.DropOwn(ctx, part, why)
	return err
}

// DropOwn implements store.OwnDropping.
func (e *Engine) DropOwn(ctx context.Context, part store.Part, why string) (own *store.DroppedPart, err error) {
	a, err := e.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer e.appending.Unlock()
	p := a.parts[part]
	switch {
	case p == nil:
		return nil, store.ErrNoDay
	case !p.Sealed:
		return nil, fmt.Errorf("%w: it is the one being written", store.ErrInUse)
	}
	names, of, err := e.cluster.shards(ctx)
	if err != nil {
		return nil, err
	}
	d := drop{part: part, class: p.Class, by: e.opts.Store, why: why}
	err = e.mark(ctx, names, of, p, &d)
	if e.wantsRoom(ctx, of[names[0]], err) {
		if made, serr := e.spare(ctx, of[names[0]]); made {
			err = e.mark(ctx, names, of, p, &d)
		} else {
			err = errors.Join(err, serr)
		}
	}
	if err != nil {
		e.outdated(a) // the next one is chosen by what is on hold now
		return nil, fmt.Errorf("say that %s is dropped: %w", part, err)
	}
	if t := d.told[e.opts.Store]; t != nil {
		told := t.drop()
		own = &told
	}
	e.mu.Lock()
	e.account = e.account.gone(part).without(map[store.Part]bool{part: true})
	d.until, d.marked = e.serial, time.Now()
	wait := len(e.open) > 0
	if wait {
		e.drops = append(e.drops, d)
	}
	e.mu.Unlock()
	if wait {
		return own, nil
	}
	if err := e.delete(ctx, &d); err != nil {
		e.mu.Lock()
		e.drops = append(e.drops, d) // tried again
		e.mu.Unlock()
		e.opts.Log.Warn("a part that was dropped is still there; it is deleted with the next search", "part", part.String(), "error", err)
	}
	return own, nil
}

// delete deletes a part, and what says that its batches are there last: until then it is there to be dropped again. What is not told yet of these is told before.
func (e *Engine) delete(ctx context.Context, d *drop) error {
	names, of, err := e.cluster.shards(ctx)
	if err != nil {
		return err
	}
	if err := e.tellRest(ctx, names, of, d); err != nil {
		return err
	}
	for _, table := range []string{"events", "batches"} {
		for _, name := range names {
			if err := e.cluster.dropPartition(ctx, of[name], table, partition(d.part)); err != nil {
				return fmt.Errorf("drop %s: %w", d.part, err)
			}
		}
	}
	first := of[names[0]]
	e.cluster.meets.Go(func() { e.fillSpare(e.cluster.ctx, first) }) // batches may wait for this
	return nil
}

// released is called when a snapshot is closed: it deletes what only that one still read.
func (e *Engine) released() {
	e.mu.Lock()
	oldest := e.serial + 1
	for n := range e.open {
		oldest = min(oldest, n)
	}
	var free []drop
	e.drops = slices.DeleteFunc(e.drops, func(d drop) bool {
		if d.until < oldest {
			free = append(free, d)
			return true
		}
		return false
	})
	if len(free) > 0 && !e.closed {
		e.cluster.meets.Go(func() { e.deleteAll(free) })
	}
	e.mu.Unlock()
}

// deleteAll deletes parts that nobody here reads any more.
func (e *Engine) deleteAll(list []drop) {
	for i := range list {
		d := &list[i]
		if err := e.delete(e.cluster.ctx, d); err != nil {
			e.opts.Log.Warn("a part that was dropped is still there; it is deleted with the next search", "part", d.part.String(), "error", err)
			e.mu.Lock()
			e.drops = append(e.drops, *d)
			e.mu.Unlock()
		}
	}
}
