package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/search"
)

// searchUsage goes after the stock options.
const searchUsage = ` where to look
       --store DIR              the collector's store: asks the collector that has it, or reads it when none does
       --api SOCKET             the query socket of a running collector
`

// searchCommand is there for `collector --help`; Run goes to search directly.
func (p *program) searchCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "search [ausearch options] [--store DIR | --api SOCKET]",
		Short:              "Find events of all hosts, in ausearch's words",
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if p.code = p.search(cmd.Context(), args); p.code != 0 {
				return errSaid
			}
			return nil
		},
	}
}

// search is ausearch over the fleet. Exit codes are the stock tool's: 0 found,
// 1 nothing found or an error.
func (p *program) search(ctx context.Context, args []string) int {
	args = splitEquals(args, "--store", "--api")
	o, err := search.ParseArgs(args, search.Env{Extra: map[string]bool{"--store": true, "--api": true}})
	switch {
	case errors.Is(err, search.ErrNoOptions):
		fmt.Fprint(p.stdio.Out, search.Usage+searchUsage)
		return 1
	case err != nil:
		fmt.Fprintln(p.stdio.Err, err)
		return 1
	case o.Help:
		fmt.Fprint(p.stdio.Out, search.Usage+searchUsage)
		return 0
	case o.Version:
		fmt.Fprintln(p.stdio.Out, "ausearch version "+search.StockVersion+" in auditfleet collector "+p.version)
		return 0
	case o.Input != "":
		return search.RunFiles(ctx, o, time.Local, "", search.Stdio{In: p.stdio.In, Out: p.stdio.Out, Err: p.stdio.Err})
	case o.Checkpoint != "" || o.CheckpointTime:
		fmt.Fprintln(p.stdio.Err, "--checkpoint is not in this version yet")
		return 1
	}
	found, err := p.find(ctx, o)
	if err != nil {
		fmt.Fprintf(p.stdio.Err, "search: %v\n", err)
		return 1
	}
	return o.Exit(found, p.stdio.Err)
}

// find writes what is found and counts it.
func (p *program) find(ctx context.Context, o *search.Options) (found int, err error) {
	w, err := search.NewWriter(p.stdio.Out, o, time.Local)
	if err != nil {
		return 0, err
	}
	src, err := where{store: last(o.Extra["--store"]), api: last(o.Extra["--api"])}.open(ctx, p)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	limit := uint64(0)
	if o.JustOne {
		limit = 1
	}
	err = src.Scan(ctx, &o.Query, limit, func(ev *event.Event) error {
		found++
		if err := w.Event(ev); err != nil {
			return fmt.Errorf("write the result: %w", err)
		}
		if o.JustOne {
			return store.ErrStop
		}
		return nil
	})
	return found, errors.Join(err, w.Close())
}

func last(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

// splitEquals lets our own options be written --store=DIR, too.
func splitEquals(args []string, ours ...string) []string {
	out := make([]string, 0, len(args)+2)
	for _, arg := range args {
		name, value, has := strings.Cut(arg, "=")
		mine := false
		for _, o := range ours {
			mine = mine || has && name == o
		}
		if mine {
			out = append(out, name, value)
			continue
		}
		out = append(out, arg)
	}
	return out
}
