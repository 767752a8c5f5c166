package roster

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/pkg/event"
)

// lookEvery is how often it is looked, for whoever follows, for collectors that have begun to run since.
const lookEvery = 15 * time.Second

var errBegan = errors.New("it has begun to run, or moved, since this began: follow again to have its events at once")

// newcomers has whoever follows hear of collectors that run now and were not asked when it began: what comes of them is not in the answer. What it returns is
// used from then on, and done is called at the end; fn and idle are never called at the same time.
func (r *Roster) newcomers(ctx context.Context, a *asked, fn func(*event.Event) error, idle func(uint64) error) (_ context.Context, _ func(*event.Event) error, _ func(uint64) error, done func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var mu sync.Mutex // makes calls of fn and idle one at a time
	var looking sync.WaitGroup
	oneIdle := func(lost uint64) error {
		mu.Lock()
		defer mu.Unlock()
		return idle(lost)
	}
	looking.Go(func() {
		look := time.NewTicker(r.look)
		defer look.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-look.C:
			}
			if r.newcomer(ctx, a) {
				if err := oneIdle(0); err != nil {
					cancel(err)
				}
			}
		}
	})
	one := func(ev *event.Event) error {
		mu.Lock()
		defer mu.Unlock()
		return fn(ev)
	}
	return ctx, one, oneIdle, func() {
		cancel(nil)
		looking.Wait()
	}
}

// newcomer notes which collectors are to be asked now that a question was not asked of, each once, and reports whether there are any.
func (r *Roster) newcomer(ctx context.Context, a *asked) (any bool) {
	members, err := r.cfg.Roster.Members(ctx)
	if err != nil {
		return false // the next look may succeed
	}
	called := names(members)
	for i := range members {
		m := &members[i]
		if m.Store == r.cfg.Self.Store || r.state(m) != "running" || m.Bad != nil || a.at[m.Store] == m.Address {
			continue
		}
		any = true
		a.at[m.Store] = m.Address // said
		api.Lacks(ctx, api.Lack{Collector: called[m.Store], Part: true, Err: errBegan})
	}
	return any
}
