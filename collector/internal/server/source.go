package server

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/collector/internal/hold"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/engine"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

var _, _ api.Source = (*live)(nil), (*ReadOnly)(nil)

// live is a running collector as a source: its head, with what the server knows of
// connections.
type live struct {
	*head.Head
	s *Server
}

// About implements query.Source.
func (l *live) About(context.Context) (query.About, error) { return about(l.Head, l.s.store), nil }

// Hosts implements api.Source.
func (l *live) Hosts(ctx context.Context) ([]*fleet.Host, error) {
	l.Refresh(ctx)
	open := map[netip.Addr]bool{}
	for _, t := range l.s.transports {
		t.Connected(func(p netip.AddrPort) { open[event.SenderAddr(p.Addr())] = true })
	}
	onHold := l.s.holds.set.List()
	return hosts(l.Head, func(h *store.Host, out *fleet.Host) {
		sayHeld(onHold, h, out)
		out.Connected = len(h.Addrs) > 0 && open[h.Addrs[0].Unmap()]
		if rate, known := l.s.rates.Of(h.Name); known {
			out.Rate = &rate
		}
		if l.s.verified == nil {
			return
		}
		if said, ok := l.s.verified.Said(h.Name); ok {
			out.Said = &fleet.Said{BootId: []byte(said.Boot), Program: []byte(said.Program), Kernel: []byte(said.Kernel), Rules: said.Rules, AtMs: said.At.UnixMilli()}
		}
	}), nil
}

// Coverage implements api.Source.
func (l *live) Coverage(ctx context.Context, req *fleet.CoverageRequest, fn func(*fleet.Coverage) error) error {
	k := &keeping{days: l.s.retention.Limits().Shortest()}
	if err := k.holds(ctx, l.s.holds.set, l.s.holds.keep, l.s.store); err != nil {
		return err
	}
	l.Refresh(ctx)
	return coverage(ctx, l.Head, k, req, fn)
}

// ReadOnly is a store that no collector has, as a source.
type ReadOnly struct {
	*head.Head
	store store.Store
	dir   string
	// Version and CoverageJSON are what bundles of evidence are made with; set before the first.
	Version      string
	CoverageJSON CoverageJSON
}

// OpenReadOnly opens a store to read, its journal's tail included. It changes
// nothing. store.ErrInUse is returned while a collector has it.
func OpenReadOnly(dir string, log hclog.Logger) (*ReadOnly, error) {
	st, err := engine.Open(engine.Options{Dir: dir, ReadOnly: true, Logger: log})
	if err != nil {
		return nil, explain(err)
	}
	h, err := head.OpenReadOnly(head.Options{Place: st, Events: st, Logger: log}, journal.Options{Dir: filepath.Join(dir, journalDir), Logger: log, ID: st.ID(), Known: st.Journal()})
	if err != nil {
		return nil, errors.Join(explain(err), st.Close())
	}
	return &ReadOnly{Head: h, store: st, dir: dir}, nil
}

// Close releases the files.
func (r *ReadOnly) Close() error { return errors.Join(r.Head.Close(), r.store.Close()) }

// About implements query.Source.
func (r *ReadOnly) About(context.Context) (query.About, error) { return about(r.Head, r.store), nil }

// Follow implements query.Source: nothing is to come.
func (*ReadOnly) Follow(context.Context, *query.Query, func(*event.Event) error, func(uint64) error) error {
	return query.ErrNotLive
}

// Hosts implements api.Source.
func (r *ReadOnly) Hosts(context.Context) ([]*fleet.Host, error) {
	onHold := hold.Open(fsys.OS, r.dir, r.store).List()
	return hosts(r.Head, func(h *store.Host, out *fleet.Host) { sayHeld(onHold, h, out) }), nil
}

// Coverage implements api.Source.
func (r *ReadOnly) Coverage(ctx context.Context, req *fleet.CoverageRequest, fn func(*fleet.Coverage) error) error {
	set, k := hold.Open(fsys.OS, r.dir, r.store), &keeping{}
	if err := k.holds(ctx, set, hold.NewKeep(set, r.store, r.Also), r.store); err != nil {
		return err
	}
	return coverage(ctx, r.Head, k, req, fn)
}

func about(h *head.Head, st store.Place) query.About {
	return query.About{Indexed: true, Store: storeID(st), Batch: h.Stats().StoredID}
}

// hosts are those of a head as they travel; more adds what only its owner knows.
func hosts(h *head.Head, more func(*store.Host, *fleet.Host)) (out []*fleet.Host) {
	for _, x := range h.Hosts() {
		one := api.FromHost(&x)
		more(&x, one)
		out = append(out, one)
	}
	return out
}
