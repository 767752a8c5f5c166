package roster

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/several"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// lookEvery is how often it is looked, for whoever follows, for collectors that have begun to run since.
const lookEvery = 15 * time.Second

// newcomers has whoever follows get what comes of collectors that have begun to run since, and nothing twice that a host has sent to one of them, too. What it returns is used from then on, and done is called at the
// end; fn and idle are never called at the same time. The context ends with query.ErrStop as its cause where an answer has all that was asked for.
func (r *Roster) newcomers(ctx context.Context, a *asked, q *query.Query, fn func(*event.Event) error, idle func(uint64) error) (_ context.Context, _ func(*event.Event) error, _ func(uint64) error, done func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var mu sync.Mutex // makes calls of fn and idle one at a time
	var looking sync.WaitGroup
	limited := q.Limited(fn)
	alone := func(call func() error) error {
		mu.Lock()
		defer mu.Unlock()
		if err := context.Cause(ctx); err != nil { // another stream had the last one
			return err
		}
		err := call()
		if err != nil {
			cancel(err)
		}
		return err
	}
	var recent several.Recent // guarded by mu
	from := func(answer int64) func(*event.Event) error {
		return func(ev *event.Event) error {
			return alone(func() error {
				if recent.Has(ev, answer) {
					return nil
				}
				return limited(ev)
			})
		}
	}
	oneIdle := func(lost uint64) error { return alone(func() error { return idle(lost) }) }
	since := *q
	if since.Limit = 0; since.StartMs == 0 {
		since.StartMs = time.Now().UnixMilli()
	}
	looking.Go(func() {
		look := time.NewTicker(r.look)
		defer look.Stop()
		answers := int64(0) // that of those who were there is the first
		for {
			select {
			case <-ctx.Done():
				return
			case <-look.C:
			}
			list, lacks := r.newcomer(ctx, a)
			for _, m := range list {
				answers++
				fn := from(answers)
				looking.Go(func() { r.alsoFollow(ctx, m, &since, fn, oneIdle) })
			}
			if lacks {
				_ = oneIdle(0) // whose error ends ctx
			}
		}
	})
	return ctx, from(0), oneIdle, func() {
		cancel(nil)
		looking.Wait()
	}
}

// alsoFollow follows a collector until ctx ends.
func (r *Roster) alsoFollow(ctx context.Context, m several.Member, q *query.Query, fn func(*event.Event) error, idle func(uint64) error) {
	s, err := several.Open(ctx, []several.Member{m}, r.wait)
	for said := false; err != nil; s, err = several.Open(ctx, []several.Member{m}, r.wait) {
		if !said && ctx.Err() == nil {
			api.Lacks(ctx, api.Lack{Collector: m.Name, Part: true, Err: err})
			_ = idle(0) // whose error ends ctx
		}
		said = true
		select {
		case <-ctx.Done():
			return
		case <-time.After(r.look):
		}
	}
	s.SayAtOnce(func(f several.Failure) { api.Lacks(ctx, f) })
	_ = errors.Join(s.Follow(ctx, q, fn, idle), s.Close()) // what it lacks is said, and what fn and idle return ends ctx
}

// newcomer returns the collectors that are to be asked now and were not asked yet, each once. It notes those that cannot be, and reports whether there are any.
func (r *Roster) newcomer(ctx context.Context, a *asked) (list []several.Member, lacks bool) {
	members, err := r.members(ctx)
	if err != nil {
		return nil, false // the next look may succeed
	}
	called := names(members)
	for i := range members {
		m := &members[i]
		if m.Store == r.cfg.Self.Store || !asks(r.state(m)) || m.Bad != nil {
			continue
		}
		before, was := a.moved(m.Store, m.Address)
		if a.followed[m.Store] || was && before == m.Address {
			continue // it is asked, or it was said why not
		}
		if why := r.unable(m); why != "" {
			lacks = true
			api.Lacks(ctx, api.Lack{Collector: called[m.Store], Part: true, Err: errors.New(why)})
			continue
		}
		a.followed[m.Store] = true
		list = append(list, r.member(a, called[m.Store], *m))
	}
	return list, lacks
}
