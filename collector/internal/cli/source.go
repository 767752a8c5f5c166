package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/server"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/terminal"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// source is where a query goes: a running collector, or the files of one that
// does not run.
type source interface {
	query.Batched
	query.Indexed
	Tally(ctx context.Context, q *query.Query, fields []query.Field, rest func(*event.Event) error) (*query.Tally, error)
	Hosts(ctx context.Context) ([]*fleet.Host, error)
	Close() error
}

// where is what --store and --api say.
type where struct{ store, api string }

// open asks the collector that has the store, or opens the store when there is none.
func (w where) open(ctx context.Context, p *program) (source, error) {
	if w.api != "" {
		c, err := api.Dial(ctx, w.api)
		if errors.Is(err, api.ErrNoServer) {
			return nil, fmt.Errorf("%w: is `collector serve` running, and with this --api?", err)
		}
		return asSource(c, err)
	}
	dir := w.store
	if dir == "" {
		dir = server.DefaultStore
	}
	c, err := api.Dial(ctx, filepath.Join(dir, server.APISocket))
	if !errors.Is(err, api.ErrNoServer) {
		return asSource(c, err)
	}
	log := hclog.New(&hclog.LoggerOptions{Name: "collector", Output: terminal.GuardLog(p.stdio.Err), Level: hclog.Warn})
	files, err := server.OpenReadOnly(dir, log)
	switch {
	case errors.Is(err, store.ErrInUse):
		return nil, fmt.Errorf("%w: a collector has it, but answers on another socket or is still starting: try again, or give --api SOCKET", err)
	case err != nil:
		return nil, err
	}
	return &fileSource{files}, nil
}

func asSource(c *api.Client, err error) (source, error) {
	if err != nil {
		return nil, err
	}
	return c, nil
}

// fileSource is a store that no collector has.
type fileSource struct{ *server.ReadOnly }

// Scan implements source.
func (s *fileSource) Scan(ctx context.Context, q *query.Query, limit uint64, fn func(*event.Event) error) error {
	n := uint64(0)
	return s.ReadOnly.Scan(ctx, q, func(ev *event.Event) error {
		if err := fn(ev); err != nil {
			return err
		}
		if n++; n == limit {
			return query.ErrStop
		}
		return nil
	})
}

// Indexed implements source.
func (*fileSource) Indexed() bool { return true }

// Hosts implements source.
func (s *fileSource) Hosts(context.Context) ([]*fleet.Host, error) {
	var out []*fleet.Host
	for _, h := range s.ReadOnly.Hosts() {
		out = append(out, api.FromHost(&h))
	}
	return out, nil
}
