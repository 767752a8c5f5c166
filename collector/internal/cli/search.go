package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/collector/internal/render"
	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/search"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// searchUsage goes after the stock options.
const searchUsage = ` where to look
       --store DIR              the collector's store: asks the collector that has it, or reads it when none does
       --api SOCKET             the query socket of a running collector
       --from ADDRESS[/BITS]    only what was received from there, whatever host it names; several with commas
`

// searchOptions is what search takes.
func searchOptions() option.Table { return append(search.OptionTable(), render.Options...) }

// searchCommand is there for `collector --help` and completion; Run goes to search
// directly.
func (p *program) searchCommand() *cobra.Command {
	return completion.Help(&cobra.Command{
		Use:                "search [ausearch options] [--from NET] [--store DIR | --api SOCKET]",
		Short:              "Find events of all hosts, in ausearch's words",
		DisableFlagParsing: true,
		ValidArgsFunction:  completion.By(fromStore(searchOptions()), option.Words{}),
		RunE: func(cmd *cobra.Command, args []string) error {
			if p.code = p.search(cmd.Context(), args); p.code != 0 {
				return errReported
			}
			return nil
		},
	}, search.Usage+searchUsage)
}

// search is ausearch over the fleet. Exit codes are the stock tool's: 0 found,
// 1 nothing found or an error.
func (p *program) search(ctx context.Context, args []string) int { return p.searchAs(ctx, args, false) }

// searchAs is search, under the stock name or ours.
func (p *program) searchAs(ctx context.Context, args []string, stock bool) int {
	o, err := render.ParseSearch(args, stock)
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
	}
	ctx, screen := terminal.Open(ctx, p.stdio.Out, p.stdio.Err, o.Screen(stock))
	o.ShowOn(screen.Color, screen.People)
	code := p.searchOn(ctx, o, screen, stock && p.piped(o))
	if err := screen.Close(); err != nil {
		fmt.Fprintf(p.stdio.Err, "search: %v\n", err)
	}
	if screen.Left() {
		return 0
	}
	return code
}

func (p *program) searchOn(ctx context.Context, o *search.Options, screen *terminal.Screen, piped bool) int {
	for _, note := range o.Notes {
		fmt.Fprintln(screen.Err, note)
	}
	switch files := o.Input != "" || piped; {
	case files && len(o.Query.From) > 0:
		fmt.Fprintln(screen.Err, errFromFile)
		return 1
	case files:
		if p.fleetFiles {
			render.OfFleet(o, screen.Err)
		}
		return search.RunFiles(ctx, o, time.Local, "", search.Stdio{In: p.stdio.In, Out: screen.Out, Err: screen.Err})
	case o.Checkpoint != "":
		return p.searchNew(ctx, o, screen.Out)
	}
	return p.ask(ctx, o.Extra, "search", screen, func(src source) int { return render.Search(ctx, o, src, screen.Out, screen.Err) })
}

// ask opens what the options say to look in and runs a command on it.
func (p *program) ask(ctx context.Context, extra map[string][]string, name string, screen *terminal.Screen, run func(source) int) int {
	src, err := where{store: last(extra["--store"]), api: last(extra["--api"])}.open(ctx, p)
	if err != nil {
		fmt.Fprintf(screen.Err, "%s: %v\n", name, err)
		return 1
	}
	code := run(src)
	if err := src.Close(); err != nil {
		fmt.Fprintf(screen.Err, "%s: %v\n", name, err)
		return 1
	}
	return code
}

// piped says whether a log comes in by a pipe, and no option says where else to
// look: under the stock name it is read, as the stock tool does.
func (p *program) piped(o *search.Options) bool {
	if o.InputLogs || o.Extra["--store"] != nil || o.Extra["--api"] != nil || p.stdio.In == nil {
		return false
	}
	info, err := p.stdio.In.Stat()
	return err == nil && info.Mode()&fs.ModeNamedPipe != 0
}

func last(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

// errFromFile is why --from does not go with -if.
const errFromFile = "--from: a log does not say who sent its records, a collector's store does"
