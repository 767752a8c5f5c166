package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/hold"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/engine"
	"github.com/auditfleet/auditfleet/pkg/daemonrec"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

var _ api.Holder = (*live)(nil)

// holds is what is on hold in a running collector.
type holds struct {
	set  *hold.Set
	keep *hold.Keep

	mu          sync.Mutex // guards said and older
	said, older int        // changes whose records were made since the last minute began, and before
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
	if err := s.holds.set.Broken(); err != nil {
		s.cfg.Log.Error("the list of holds can't be believed: everything is on hold, and retention drops nothing, until it is put back (and the collector started again) or `collector hold remove --all` begins a new one", "error", err)
	}
}

// sayHolds records the changes that were made while no collector ran, or whose records may have been
// lost when one was killed, and then forgets each change a minute after its record was made.
func (s *Server) sayHolds(ctx context.Context) {
	s.recordHolds(s.holds.set.Unsaid())
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		if err := s.holds.settle(false); err != nil {
			s.cfg.Log.Warn("the list of holds", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// recordHolds makes a record of the collector's own of each change.
func (s *Server) recordHolds(done []hold.Done) {
	if len(done) == 0 {
		return
	}
	s.holds.mu.Lock()
	defer s.holds.mu.Unlock()
	for _, d := range done {
		s.own.Hold(d.Op, d.What, d.Reason, d.By, d.At)
		s.holds.said++
	}
}

// settle forgets changes whose records are stored: those of the minute before, or all.
func (h *holds) settle(all bool) error {
	if h.set == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.older
	if all {
		n += h.said
	}
	err := h.set.Settle(n)
	h.older, h.said = h.said, 0
	return err
}

// ChangeHolds implements api.Holder. Nothing is dropped meanwhile: what is there once it returns, stays.
func (l *live) ChangeHolds(_ context.Context, c hold.Change) (done []hold.Done, err error) {
	err = l.s.retention.While(func() error {
		done, err = l.s.holds.set.Change(c, l.s.cfg.Now())
		l.s.recordHolds(done)
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
	c.By = fmt.Sprintf("auid=%s uid=%d pid=%d", daemonrec.ProcessID("self", "loginuid"), os.Getuid(), os.Getpid())
	return hold.Open(fsys.OS, dir, st).Change(c, time.Now())
}
