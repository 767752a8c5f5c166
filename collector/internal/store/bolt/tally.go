package bolt

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Tally counts what groups' dictionaries can say and gives rest the events of
// which they cannot. Groups are taken by several workers, in no order.
func (sn *snapshot) Tally(ctx context.Context, q *query.Query, fields []query.Field, rest func(*event.Event) error) (*query.Tally, error) {
	if broken := lossesFor(sn.broken, q); len(broken) > 0 {
		return nil, fmt.Errorf("tally: %w", broken[0])
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	tl := &tallying{s: sn.s, ctx: ctx, q: q, conds: store.ConditionsOf(q), fields: fields, sum: query.NewTally(fields, q.Memory), rest: rest}
	var todo []*plan
	for _, v := range sn.parts {
		for i := range v.entries {
			e := &v.entries[i]
			if !sn.mayMatch(e, q) {
				continue
			}
			first, _ := e.batches()
			todo = append(todo, &plan{p: v.p, id: e.id, some: first <= q.AfterBatch})
		}
	}
	workers := sn.s.opts.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	// next is the group to be taken next; the first error ends all workers by ctx.
	var wg sync.WaitGroup
	var next atomic.Int64
	for range min(workers, len(todo)) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := tl.work(todo, &next); err != nil {
				cancel(err)
			}
		}()
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("tally: %w", err)
	}
	return tl.sum, nil
}

// tallying is one run of Tally. Each worker counts into a tally of its own and adds it to
// sum at its end, so mu is held for little but rest.
type tallying struct {
	s      *Store
	ctx    context.Context
	q      *query.Query
	conds  store.Conditions
	fields []query.Field

	mu   sync.Mutex // guards sum and calls of rest
	sum  *query.Tally
	rest func(*event.Event) error
}

// work is a worker: it takes groups until there are none left, adds up what their
// dictionaries tell, and reads and counts the events that these do not tell. What must not be counted is given to rest. Of an odd event, which
// was counted with its block, the values are taken back before.
func (tl *tallying) work(todo []*plan, next *atomic.Int64) error {
	sum := query.NewTally(tl.fields, tl.q.Memory)
	m := query.NewMatcher(tl.q)
	for tl.ctx.Err() == nil {
		i := next.Add(1) - 1
		if i >= int64(len(todo)) {
			break
		}
		out, err := tl.count(todo[i], sum)
		if err != nil {
			tl.s.noteDamage(todo[i].p, todo[i].id, -1, nil, err)
		}
		if err == nil {
			err = tl.read(todo[i], out.Rest, func(ev *event.Event) error {
				if m.Match(ev) && !sum.AddEvent(ev) {
					return tl.give(ev)
				}
				return nil
			})
		}
		if err == nil {
			err = tl.read(todo[i], out.Odd, func(ev *event.Event) error {
				if sum.TakeBack(ev); m.Match(ev) {
					return tl.give(ev)
				}
				return nil
			})
		}
		if err = errors.Join(err, sum.Err()); err != nil {
			return err
		}
	}
	tl.mu.Lock()
	defer tl.mu.Unlock()
	tl.sum.Merge(sum)
	return tl.sum.Err()
}

// count adds up what a group's dictionaries tell, and returns what they do not. Of a group of many batches some of which are not
// wanted, they tell nothing.
func (tl *tallying) count(pl *plan, sum *query.Tally) (out group.Uncounted, err error) {
	err = pl.p.withGroup(pl.id, func(g *group.Group) (err error) {
		if pl.some {
			out.Rest, pl.origins, pl.batches, err = candidates(g, tl.q, tl.conds)
			return err
		}
		if out, err = g.Tally(tl.q, tl.fields, sum); err != nil {
			return err
		}
		mixed := func(c group.Candidate) bool { return c.Block.Host == "" }
		if len(tl.q.From) > 0 || slices.ContainsFunc(out.Rest, mixed) || slices.ContainsFunc(out.Odd, mixed) {
			pl.origins, err = g.OriginsFor(slices.Concat(out.Rest, out.Odd))
		}
		return err
	})
	return out, err
}

// give calls rest with an event, one call at a time.
func (tl *tallying) give(ev *event.Event) error {
	tl.mu.Lock()
	defer tl.mu.Unlock()
	if err := tl.ctx.Err(); err != nil {
		return err
	}
	return tl.rest(ev)
}

// read calls fn with the wanted events of blocks. An event is valid until fn returns: it
// and the frame's memory are used again for the next. It reads past the cache.
func (tl *tallying) read(pl *plan, cands []group.Candidate, fn func(*event.Event) error) error {
	var frame []byte
	var scratch event.Event
	have := int64(-1)
	for i := range cands {
		if err := tl.ctx.Err(); err != nil { // a group may have a GiB, and nobody who takes its events
			return err
		}
		c := &cands[i]
		if have != int64(c.Block.Frame) {
			err := pl.p.withGroup(pl.id, func(g *group.Group) (err error) {
				frame, err = g.Text(frame, c.Block.Frame)
				return err
			})
			if err != nil {
				tl.s.noteDamage(pl.p, pl.id, c.Index, &c.Block, err)
				return err
			}
			have = int64(c.Block.Frame)
		}
		text, err := c.Block.Cut(frame)
		if err != nil {
			return err
		}
		want := c.Want
		origins, batches := pl.origins.Block(c.Index, &c.Block), pl.batches.Block(c.Index, &c.Block, math.MaxUint64)
		for n := uint32(0); n < c.Block.Events && (c.Want == nil || len(want) > 0); n++ {
			var one []byte
			if one, text, err = store.CutText(text, c.Block.Counted); err != nil {
				return fmt.Errorf("%s: group %d: block %d: %w: %w", pl.p.path, pl.id, c.Index, store.ErrDamaged, err)
			}
			origin, batch := origins.Next(), batches.Next()
			if c.Want != nil {
				if want[0] != n {
					continue
				}
				want = want[1:]
			}
			if batch <= tl.q.AfterBatch {
				continue
			}
			store.ParseInto(&scratch, one, c.Block.Counted, []byte(c.Block.Host), origin)
			if len(scratch.Records) == 0 {
				continue
			}
			if err := fn(&scratch); err != nil {
				return err
			}
		}
	}
	return tl.ctx.Err()
}
