package roster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/several"
	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// asked is who a question is asked of.
type asked struct {
	seen   map[string]uint64 // the last batch of each other collector that the own answer has
	others []several.Member
	absent []store.Member // those that do not run
	// followed are the stores of others, and of those that are followed since; of who looks for newcomers.
	followed map[string]bool

	mu sync.Mutex
	at map[string]string // guarded by mu: where each store's collector is asked; why not was said of those that run and are not in here
}

// moved notes where a store's collector is now, and returns where it was; was is false where it did not run, as far as is known.
func (a *asked) moved(id, address string) (before string, was bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	before, was = a.at[id]
	a.at[id] = address
	return before, was
}

// member is one that is asked what is behind a batch, wherever it is by then.
func (r *Roster) member(a *asked, name string, m store.Member) several.Member {
	return several.Member{Name: name, Open: func(ctx context.Context) (several.Collector, error) {
		a.mu.Lock()
		m.Address = a.at[m.Store]
		a.mu.Unlock()
		return r.open(ctx, &m, a.seen[m.Store])
	}}
}

// unable says why a collector that runs cannot be asked; "": it can.
func (r *Roster) unable(m *store.Member) string {
	switch {
	case m.Bad != nil:
		return m.Bad.Error()
	case m.Address == "":
		return "it has no gRPC port at which it could be asked (grpc, cluster_address)"
	case r.cfg.Dial == nil:
		return "this collector has no certificate by which it could ask (tls_cert)"
	}
	return ""
}

// ask finds out whom to ask, and notes what the answer lacks of those that cannot be.
func (r *Roster) ask(ctx context.Context) (*asked, error) {
	members, err := r.members(ctx)
	if err != nil {
		return nil, err
	}
	// What one has stored before it ended must be in the answer, for it is not asked.
	seen, err := r.cfg.Roster.Seen(ctx, r.ended(members))
	if err != nil {
		return nil, err
	}
	a := &asked{seen: seen, at: map[string]string{}, followed: map[string]bool{}}
	called := names(members)
	there := r.stillThere(ctx, members)
	for i := range members {
		m := members[i]
		state := r.state(&m)
		if m.Store == r.cfg.Self.Store {
			continue
		}
		if there[m.Store] {
			state = running
		}
		if asks(state) {
			a.at[m.Store] = m.Address
		}
		if !asks(state) || m.Bad != nil {
			a.absent = append(a.absent, m)
		}
		if state == stopped || state == lost {
			continue
		}
		why := r.unable(&m)
		if m.Bad == nil && state == silent {
			why = fmt.Sprintf("it was not heard of since %s", time.UnixMilli(m.Taken).UTC().Format(time.RFC3339))
		}
		if why != "" {
			api.Lacks(ctx, api.Lack{Collector: called[m.Store], Tail: true, Err: errors.New(why)})
			continue
		}
		a.followed[m.Store] = true
		a.others = append(a.others, r.member(a, called[m.Store], m))
	}
	return a, nil
}
