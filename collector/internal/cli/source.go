package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/server"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// source is what a command asks: a running collector, or the files of one that does not run.
// Whoever opens it closes it.
type source interface {
	api.Source
	io.Closer
}

// where is the collector that --store and --api name; "" where the option is not given.
type where struct{ store, api string }

// open connects to the collector that has the store, or opens the store's files to be read
// when none has it. With --api it only connects.
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
	return files, nil
}

// asSource keeps a nil *Client from becoming a source that is not nil.
func asSource(c *api.Client, err error) (source, error) {
	if err != nil {
		return nil, err
	}
	return c, nil
}
