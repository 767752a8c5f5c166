package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/server"
	"github.com/auditfleet/auditfleet/collector/internal/several"
	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/timespec"
)

// exitLacking is the exit code of an answer that lacks what some collector has, or may have.
const exitLacking = api.ExitLacking

// none for --also leaves out the collectors of client.conf.
const noneAlso = "none"

// alsoUsage is what each command says of the options.
const alsoUsage = `       --also HOST:PORT[,…]     collectors that are asked as well, by their gRPC ports: the answer is as if one had
                                it all, and says what it lacks of one that is down; none: not those of client.conf
       --also-wait TIME         how long each of several collectors may answer nothing (30s)
`

// alsoWhere is what the command line says of further collectors.
type alsoWhere struct {
	also []string // values of --also
	wait string   // --also-wait
}

// addAlso adds the options about further collectors.
func addAlso(cmd *cobra.Command, w *where) {
	cmd.Flags().StringArrayVar(&w.also, "also", nil, "HOST:PORT[,…] of collectors that are asked as well, by their gRPC ports; none: not those of client.conf")
	cmd.Flags().StringVar(&w.alsoWhere.wait, "also-wait", "", "how long each of several collectors may answer nothing (30s)")
}

// checkAlso says what is wrong with the options.
func (w *alsoWhere) checkAlso() error {
	for _, one := range w.named() {
		switch {
		case one == noneAlso && len(w.named()) > 1:
			return errors.New("--also none: it names no others")
		case one != noneAlso && !hasPort(one):
			return fmt.Errorf("--also %.200q is not HOST:PORT: the port is that of the collector's --grpc", one)
		}
	}
	if w.wait == "" {
		return nil
	}
	if d, err := timespec.Duration(w.wait); err != nil || d < time.Second {
		return fmt.Errorf("--also-wait %.100q: a time such as 10s or 2m is wanted", w.wait)
	}
	return nil
}

// named are the collectors that the command line names.
func (w *alsoWhere) named() (list []string) {
	for _, v := range w.also {
		list = append(list, strings.Split(v, ",")...)
	}
	return list
}

// asking is who is asked, with what client.conf says.
type asking struct {
	where
	others []string
	wait   time.Duration
}

// withClient reads client.conf, of which the command line goes first.
func (w where) withClient() (*asking, error) {
	if err := w.check(); err != nil {
		return nil, err
	}
	c, err := loadClient()
	if err != nil {
		return nil, err
	}
	a := &asking{where: w, others: c.also, wait: c.wait}
	if len(w.also) > 0 {
		a.others = w.named()
	}
	if slices.Equal(a.others, []string{noneAlso}) {
		a.others = nil
	}
	if w.alsoWhere.wait != "" {
		if a.wait, err = timespec.Duration(w.alsoWhere.wait); err != nil {
			return nil, err
		}
	}
	for _, one := range a.others {
		if _, err := c.identity(one, w.tls); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// openAll opens what the words of a command ask: one collector, or several as one. What is to be known of
// them goes to errs.
func (w where) openAll(ctx context.Context, p *program, errs io.Writer) (source, error) {
	a, err := w.withClient()
	if err != nil {
		return nil, err
	}
	if len(a.others) == 0 {
		return w.open(ctx, p)
	}
	all, err := several.Open(ctx, a.members(p), a.wait)
	if err != nil {
		return nil, err
	}
	if len(w.also) > 0 { // the same client.conf may be on all machines
		for _, line := range all.Same() {
			fmt.Fprintln(errs, "NOTE - "+line)
		}
	}
	return all, nil
}

// members are the collectors that are asked. That of this machine is one if the command line names it, or there is a store.
func (a *asking) members(p *program) (list []several.Member) {
	away := func(address string) several.Member {
		return several.Member{Name: address, Open: func(ctx context.Context) (several.Collector, error) { return elsewhere(ctx, address, a.tls) }}
	}
	here := where{store: a.store, api: a.api}
	switch {
	case a.server != "":
		list = append(list, away(a.server))
	case a.store != "" || a.api != "" || isStore(server.DefaultStore):
		list = append(list, several.Member{Name: cmp.Or(a.api, a.store, server.DefaultStore), Open: func(ctx context.Context) (several.Collector, error) { return here.open(ctx, p) }})
	}
	for _, address := range a.others {
		if !slices.ContainsFunc(list, func(m several.Member) bool { return m.Name == address }) {
			list = append(list, away(address))
		}
	}
	return list
}

// isStore reports whether there is a store in a folder.
func isStore(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, server.APISocket))
	if err == nil {
		return true
	}
	list, err := os.ReadDir(dir)
	return len(list) > 0 || errors.Is(err, os.ErrPermission)
}

// lacking says on errs what an answer lacks, and in an object on out if it is to be JSON. It returns the exit code: code
// where the answer is whole or has failed in another way.
func lacking(src source, name string, code int, asJSON bool, out, errs io.Writer) int {
	part, ok := src.(interface{ Missing() []api.Lack })
	if !ok {
		return code
	}
	missing := part.Missing()
	if len(missing) == 0 {
		return code
	}
	if all, ok := src.(interface{ SaidAtOnce() bool }); !ok || !all.SaidAtOnce() {
		for _, f := range missing {
			fmt.Fprintln(errs, f.Line(name))
		}
	}
	if asJSON {
		if _, err := fmt.Fprintln(out, lackingJSON(name, missing)); err != nil {
			fmt.Fprintf(errs, "%s: write what the answer lacks: %v\n", name, err)
		}
	}
	if code == command.ExitUsage {
		return code
	}
	return exitLacking
}

// lackingJSON is the same for programs.
func lackingJSON(name string, missing []api.Lack) string {
	type lacks struct {
		Collector string `json:"collector"`
		Error     string `json:"error"`
		Lacks     string `json:"lacks"`            // all or part
		From      string `json:"from,omitempty"`   // part: its events from then on
		Before    string `json:"before,omitempty"` // or, of a reversed search, before
		Message   string `json:"message"`
	}
	list := make([]lacks, len(missing))
	for i, f := range missing {
		l := lacks{Collector: f.Collector, Error: f.Why(), Lacks: "all", Message: f.Line(name)}
		if f.Part || f.Tail {
			l.Lacks = "part"
		}
		if at := utc(f.LastMs); f.Part && f.LastMs != 0 && f.Reversed {
			l.Before = at
		} else if f.Part && f.LastMs != 0 {
			l.From = at
		}
		list[i] = l
	}
	b, err := json.Marshal(map[string]any{"incomplete": list})
	if err != nil {
		return "" // it has texts only
	}
	return string(b)
}
