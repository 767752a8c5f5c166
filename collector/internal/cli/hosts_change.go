package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/server"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// hostChange is what hosts --forget and --reattribute ask for.
type hostChange struct{ forget, reattribute []string }

func (c *hostChange) asked() bool { return len(c.forget)+len(c.reattribute) > 0 }

// change reads the words.
func (c *hostChange) change(args []string) (*store.Change, error) {
	out := &store.Change{Forget: c.forget, Also: map[netip.Addr]string{}}
	if len(c.forget) > 0 {
		out.Forget = append(out.Forget, args...)
	} else if len(args) > 0 {
		return nil, fmt.Errorf("%q: names of hosts go with --forget", args[0])
	}
	for _, word := range c.reattribute {
		text, name, ok := strings.Cut(word, "=")
		addr, err := netip.ParseAddr(text)
		if !ok || err != nil {
			return nil, fmt.Errorf("--reattribute must be ADDRESS=HOST, was %.300q", word)
		}
		out.Also[event.SenderAddr(addr)] = name
	}
	return out, nil
}

// changeHosts makes a change: the collector that has the store does, or it is made in
// the files when there is none.
func (p *program) changeHosts(ctx context.Context, w where, c *store.Change) error {
	forgotten, err := p.changeAt(ctx, w, c)
	if err != nil {
		return err
	}
	for _, name := range forgotten {
		if name == "" {
			name = "(others)"
		}
		fmt.Fprintln(p.stdio.Out, "forgotten:", terminal.Clean(name))
	}
	if slices.ContainsFunc(c.Forget, query.IsPattern) {
		fmt.Fprintf(p.stdio.Out, "hosts forgotten: %d; their records stay\n", len(forgotten))
	}
	for addr, name := range c.Also {
		if name == "" {
			fmt.Fprintf(p.stdio.Out, "what came from %s is no other host's\n", addr)
			continue
		}
		fmt.Fprintf(p.stdio.Out, "what came from %s without node= is found as %s, too\n", addr, terminal.Clean(name))
	}
	return nil
}

func (p *program) changeAt(ctx context.Context, w where, c *store.Change) ([]string, error) {
	if err := w.check(); err != nil {
		return nil, err
	}
	if w.server != "" {
		client, err := dial(ctx, w.server, w.tls)
		if err != nil {
			return nil, err
		}
		changed, err := client.ChangeHosts(ctx, c)
		return changed, errors.Join(err, client.Close())
	}
	path := w.api
	dir := w.store
	if path == "" {
		if dir == "" {
			dir = server.DefaultStore
		}
		path = filepath.Join(dir, server.APISocket)
	}
	client, err := api.Dial(ctx, path)
	switch {
	case err == nil:
		changed, err := client.ChangeHosts(ctx, c)
		return changed, errors.Join(err, client.Close())
	case !errors.Is(err, api.ErrNoServer) || w.api != "":
		return nil, err
	}
	log := hclog.New(&hclog.LoggerOptions{Name: "collector", Output: p.stdio.Err, Level: hclog.Warn})
	return server.ChangeHosts(ctx, dir, c, log)
}
