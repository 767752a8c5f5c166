package roster

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/several"
	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// open connects to a collector, or uses the connection that there is.
func (r *Roster) open(ctx context.Context, m *store.Member, after uint64) (several.Collector, error) {
	r.mu.Lock()
	c := r.clients[m.Address]
	r.mu.Unlock()
	if c == nil {
		made, err := r.cfg.Dial(ctx, m.Address)
		if err != nil {
			return nil, err
		}
		r.mu.Lock()
		if c = r.clients[m.Address]; c == nil {
			r.clients[m.Address], c, made = made, made, nil
		}
		r.mu.Unlock()
		if made != nil {
			if err := made.Close(); err != nil {
				return nil, err
			}
		}
	}
	t := &tail{Client: c, r: r, at: m.Address, after: after}
	is, err := t.Status(ctx)
	if err == nil && is.GetStoreId() != m.Store {
		err = fmt.Errorf("another collector answers at %s: cluster_address says where others reach it", m.Address)
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

const (
	// tryWait is how long a collector may answer nothing that is said to have stopped, or to be gone, and triedFor how long it is not tried again then.
	tryWait  = time.Second
	triedFor = 10 * time.Second
)

// tried is whether a collector answered that has written something, and when that was tried.
type tried struct {
	wrote int64 // Member.At
	at    time.Time
	there bool
}

// stillThere returns which collectors answer that have said to have stopped, or of which somebody said that they are gone: one that began again while the
// cluster took nothing could not write that it runs.
func (r *Roster) stillThere(ctx context.Context, members []store.Member) map[string]bool {
	there := map[string]bool{}
	var mu sync.Mutex // guards there
	var trying sync.WaitGroup
	for i := range members {
		m := &members[i]
		if state := r.state(m); state != stopped && state != lost || m.Address == "" || r.cfg.Dial == nil {
			continue
		}
		trying.Go(func() {
			r.mu.Lock()
			t := r.tried[m.Store]
			r.mu.Unlock()
			if t.wrote != m.At || time.Since(t.at) > triedFor {
				t = tried{m.At, time.Now(), r.answers(ctx, m, tryWait)}
				if ctx.Err() == nil {
					r.mu.Lock()
					r.tried[m.Store] = t
					r.mu.Unlock()
				}
			}
			mu.Lock()
			there[m.Store] = t.there
			mu.Unlock()
		})
	}
	trying.Wait()
	return there
}

// answers reports whether a collector answers within a time at the address that it wrote.
func (r *Roster) answers(ctx context.Context, m *store.Member, wait time.Duration) bool {
	if m.Address == "" || r.cfg.Dial == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	_, err := r.open(ctx, m, 0)
	return err == nil
}

// drop closes a connection that is not used any more.
func (r *Roster) drop(address string, c Client) {
	r.mu.Lock()
	is := r.clients[address] == c
	if is {
		delete(r.clients, address)
	}
	r.mu.Unlock()
	if is {
		_ = c.Close() // it has failed already
	}
}
