package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/server"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/engine"
	"github.com/auditfleet/auditfleet/pkg/pki"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// source is what a command asks: a running collector, or the files of one that does not run.
// Whoever opens it closes it.
type source interface {
	api.Source
	io.Closer
}

// where is the collector that --store, --api or --server name; "" where the option is not
// given. With also, it is one of several.
type where struct {
	store, api string
	server     string // HOST:PORT of a collector's --grpc
	tls        pki.Config
	alsoWhere
}

// whereOf is what the options of search and report say.
func whereOf(extra map[string][]string) where {
	value := func(name string) string { return last(extra[name]) }
	return where{
		store: value("--store"), api: value("--api"), server: value("--server"),
		tls:       pki.Config{CA: value("--tls-ca"), Cert: value("--tls-cert"), Key: value("--tls-key")},
		alsoWhere: alsoWhere{also: extra["--also"], wait: value("--also-wait")},
	}
}

// check says what is wrong with the options together.
func (w where) check() error {
	if err := w.checkAlso(); err != nil {
		return err
	}
	named := w.tls.CA != "" || w.tls.Cert != "" || w.tls.Key != ""
	switch {
	case engine.IsCluster(w.store):
		return errCluster
	case w.server == "" && len(w.also) == 0 && named:
		return errors.New("--tls-ca, --tls-cert and --tls-key go with --server HOST:PORT, or --also")
	case w.server != "" && (w.store != "" || w.api != ""):
		return errors.New("--server and --store or --api: only one of them can be asked")
	case w.server != "" && !hasPort(w.server):
		return fmt.Errorf("--server %.200q is not HOST:PORT: the port is that of the collector's --grpc", w.server)
	case w.server != "":
		_, err := identity(w.server, w.tls)
		return err
	}
	return nil
}

// errCluster is why a cluster is not asked itself: what is not stored yet, and who may ask, only a collector knows.
var errCluster = errors.New("--store names a collector's folder here (its store_folder): a cluster is asked through a collector")

func hasPort(address string) bool {
	_, port, err := net.SplitHostPort(address)
	return err == nil && port != ""
}

// dial connects to a collector on another machine, as whom given says, or client.conf.
func dial(ctx context.Context, server string, given pki.Config) (*api.Client, error) {
	as, err := identity(server, given)
	if err != nil {
		return nil, err
	}
	trust, err := pki.Open(as)
	if err != nil {
		return nil, err
	}
	return api.DialTLS(ctx, server, trust.Client(pki.ServerOf(server), "h2"), trust.Explain)
}

// elsewhere asks a collector on another machine.
func elsewhere(ctx context.Context, server string, as pki.Config) (source, error) {
	c, err := dial(ctx, server, as)
	if err == nil {
		// Who may not read hears it before the head of a report is printed.
		if _, err = c.Status(ctx); err != nil {
			err = errors.Join(err, c.Close())
		}
	}
	return asSource(c, err)
}

// open connects to the collector that has the store, or opens the store's files to be read
// when none has it. With --api it only connects.
func (w where) open(ctx context.Context, p *program) (source, error) {
	if err := w.check(); err != nil {
		return nil, err
	}
	if w.server != "" {
		return elsewhere(ctx, w.server, w.tls)
	}
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
