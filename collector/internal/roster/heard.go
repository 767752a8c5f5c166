package roster

import (
	"context"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// Whether a collector runs is told by whether what it wrote has changed, by the time of this process: no machine's clock, ours or another's, can make one that is dead run, nor one that
// runs silent. So a process that has just begun does not know it yet of those that it found.

// The states of a collector, as they are shown.
const (
	running = "running"
	unheard = "unheard" // found by this process, which has not looked for long enough to say more
	silent  = "silent"
	stopped = "stopped"
	lost    = "lost"
)

// heard is what a collector wrote last, as far as we have read it.
type heard struct {
	at    int64 // Member.At
	since time.Time
	found bool // it was there at our first look, and is still the same
}

// members returns the collectors of the cluster, and notes which of them have written something since the last look.
func (r *Roster) members(ctx context.Context) ([]store.Member, error) {
	list, err := r.cfg.Roster.Members(ctx)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	first := r.heard == nil
	if first {
		r.heard = map[string]heard{}
	}
	for i := range list {
		m := &list[i]
		if was, is := r.heard[m.Store]; !is || m.At > was.at {
			r.heard[m.Store] = heard{m.At, time.Now(), first}
		}
	}
	return list, nil
}

// state is what is known of a collector that members has returned, in a word.
func (r *Roster) state(m *store.Member) string {
	r.mu.Lock()
	h := r.heard[m.Store]
	r.mu.Unlock()
	switch {
	case m.Store == r.cfg.Self.Store:
		return running
	case m.Lost != 0:
		return lost
	case m.Stopped:
		return stopped
	case time.Since(h.since) > silentAfter:
		return silent
	case h.found:
		return unheard
	}
	return running
}

// asks reports whether a collector of a state is asked for what it has.
func asks(state string) bool { return state == running || state == unheard }

// ended returns by when the last collector that does not run had ended: what it stored was stored before, unless it is silent because it cannot write that it runs.
func (r *Roster) ended(members []store.Member) (last time.Time) {
	for i := range members {
		m := &members[i]
		state := r.state(m)
		if asks(state) {
			continue
		}
		r.mu.Lock()
		at := r.heard[m.Store].since
		r.mu.Unlock()
		if state != stopped {
			at = at.Add(silentAfter)
		}
		if at.After(last) {
			last = at
		}
	}
	return last
}
