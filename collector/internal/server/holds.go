package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/hold"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/engine"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

var _ api.Holder = (*live)(nil)

// holds is what is on hold in a running collector.
type holds struct {
	set  *hold.Set
	keep *hold.Keep

	mu sync.Mutex // guards way
	// way has the changes whose records are on their way to the journal, and says which are stored.
	way map[hold.Done]bool
}

// openHolds reads the list of holds; the store is open.
func (s *Server) openHolds() {
	s.holds.set = hold.Open(fsys.OS, s.cfg.Store, s.store)
	s.holds.keep = hold.NewKeep(s.holds.set, s.store, func() map[string]string {
		if s.head == nil {
			return nil
		}
		return s.head.Also()
	})
	s.holds.keep.Guard()
	if err := s.holds.set.Broken(); err != nil {
		s.cfg.Log.Error("the list of holds can't be believed: everything is on hold, and retention drops nothing, until it is put back (and the collector started again) or `collector hold remove --all` begins a new one", "error", err)
	}
}

// sayHolds records each change until its record is stored, and then has the list forget it: also those that were made
// while no collector ran, or whose records were lost when one was killed or its journal took nothing. Others that drop the same events are told what is on hold, again and again, for
// their tables may be made anew, or be those of before.
func (s *Server) sayHolds(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	failed := false
	for {
		err := s.holds.share(ctx)
		if err != nil && !failed && ctx.Err() == nil {
			s.cfg.Log.Warn("the list of holds", "error", err)
		}
		failed = err != nil
		s.recordHolds(s.holds.set.Unsaid())
		if err := s.holds.settle(); err != nil {
			s.cfg.Log.Warn("the list of holds", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// recordHolds makes a record of the collector's own of each change that has none yet.
func (s *Server) recordHolds(done []hold.Done) {
	for _, d := range done {
		if !s.holds.begin(d) {
			continue
		}
		if !s.own.Hold(d.Op, d.What, d.Reason, d.By, d.At, func(yes bool) { s.holds.end(d, yes) }) {
			s.holds.end(d, false)
		}
	}
}

// sharing is how long other collectors may take to be told what is on hold: whoever is about to drop something is waited for, for two minutes.
const sharing = 3 * time.Minute

// share tells other collectors what is on hold.
func (h *holds) share(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sharing)
	defer cancel()
	return h.keep.Share(ctx)
}

// begin notes that a change's record is made; false where it was made before.
func (h *holds) begin(d hold.Done) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, made := h.way[d]; made {
		return false
	}
	if h.way == nil {
		h.way = map[hold.Done]bool{}
	}
	h.way[d] = false
	return true
}

// end notes what became of a change's record: one that is not stored is made again.
func (h *holds) end(d hold.Done, stored bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if stored {
		h.way[d] = true
	} else {
		delete(h.way, d)
	}
}

// settle has the list forget the changes whose records are stored. Where it can't be written, that is done again.
func (h *holds) settle() error {
	if h.set == nil {
		return nil
	}
	h.mu.Lock()
	var stored []hold.Done
	for d, yes := range h.way {
		if yes {
			stored = append(stored, d)
		}
	}
	h.mu.Unlock()
	if err := h.set.Settle(stored); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range stored {
		delete(h.way, d)
	}
	return nil
}

// ChangeHolds implements api.Holder. Nothing is dropped meanwhile: what is there once it returns, stays.
func (l *live) ChangeHolds(ctx context.Context, c hold.Change) (done []hold.Done, err error) {
	err = l.s.retention.While(func() error {
		done, err = l.s.holds.set.Change(c, l.s.cfg.Now())
		l.s.recordHolds(done)
		if err != nil {
			return err
		}
		if err = l.s.holds.share(context.WithoutCancel(ctx)); err != nil {
			err = fmt.Errorf("the change is made; %w", err)
		}
		return err
	})
	for _, d := range done {
		l.s.cfg.Log.Info("hold", "op", d.Op, "what", d.What, "reason", d.Reason, "by", d.By)
	}
	return done, err
}

// Holds implements api.Holder.
func (l *live) Holds(ctx context.Context) (*fleet.HoldsResponse, error) {
	return listHolds(ctx, l.s.holds.set, l.s.holds.keep, l.s.store)
}

// Holds lists what is on hold.
func (r *ReadOnly) Holds(ctx context.Context) (*fleet.HoldsResponse, error) {
	set := hold.Open(fsys.OS, r.dir, r.store)
	return listHolds(ctx, set, hold.NewKeep(set, r.store, r.Also), r.store)
}

// listHolds lists the holds of set, with what each is on.
func listHolds(ctx context.Context, set *hold.Set, keep *hold.Keep, events store.Events) (*fleet.HoldsResponse, error) {
	st, err := events.Stats(ctx)
	if err != nil {
		return nil, err
	}
	out := &fleet.HoldsResponse{}
	if err := set.Broken(); err != nil {
		out.Broken = err.Error()
	}
	list := set.List()
	for i := range list {
		h := &list[i]
		one := &fleet.Hold{What: []byte(h.What), Reason: []byte(h.Reason), By: []byte(h.By), AtMs: h.At.UnixMilli()}
		for j := range st.Parts {
			if p := &st.Parts[j]; keep.Holds(ctx, h, p) {
				one.Partitions, one.Bytes, one.Events = one.Partitions+1, one.Bytes+p.DiskBytes, one.Events+p.Events
			}
		}
		out.Holds = append(out.Holds, one)
	}
	out.Partitions, out.Bytes, out.Events = held(ctx, keep, st.Parts)
	return out, ctx.Err()
}

// held adds up the parts that are on hold.
func held(ctx context.Context, keep *hold.Keep, parts []store.PartStats) (n uint32, bytes, events uint64) {
	for i := range parts {
		if p := &parts[i]; keep.Why(ctx, p) != "" {
			n, bytes, events = n+1, bytes+p.DiskBytes, events+p.Events
		}
	}
	return n, bytes, events
}

// sayHeld adds to a host the holds that keep its events.
func sayHeld(list []hold.Hold, h *store.Host, out *fleet.Host) {
	for i := range list {
		if x := &list[i]; x.OfHost(h.Name) || h.Also != "" && x.OfHost(h.Also) {
			out.Holds = append(out.Holds, []byte(x.What))
		}
	}
}

// ChangeHolds changes what is on hold in a store that no collector has. The next one that starts
// records it.
func ChangeHolds(dir string, c hold.Change, log hclog.Logger) (done []hold.Done, err error) {
	st, err := engine.Open(engine.Options{Dir: dir, Logger: log})
	if err != nil {
		return nil, explain(err)
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	c.By = Self()
	h := holds{set: hold.Open(fsys.OS, dir, st)}
	if done, err = h.set.Change(c, time.Now()); err != nil {
		return done, err
	}
	h.keep = hold.NewKeep(h.set, st, nil)
	if err = h.share(context.Background()); err != nil {
		err = fmt.Errorf("the change is made; %w", err)
	}
	return done, err
}
