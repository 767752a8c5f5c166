package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/render"
	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/search"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// searchUsage goes after the stock options.
const searchUsage = ` where to look
       --store DIR              the collector's store: asks the collector that has it, or reads it when none does
       --api SOCKET             the query socket of a running collector
       --server HOST:PORT       a collector on another machine, by its gRPC port, as who --tls-cert says
` + alsoUsage + `       --tls-ca FILE --tls-cert FILE --tls-key FILE
                                by what it is known, and who asks
       --no-coverage-note       do not say on standard error that trails are not complete in that time; nor does
                                AUDITFLEET_COVERAGE_NOTE=off in the environment
       --coverage               with --format json: a last object that says whether they are
       --mismatch               only what claims, by node=, to be another host's than the one that it is kept under
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
		RunE:               func(cmd *cobra.Command, args []string) error { return p.coded(p.search(cmd.Context(), args)) },
	}, search.Usage+searchUsage)
}

// search is ausearch over the fleet. Exit codes are the stock tool's, 0 found and 1
// nothing found, but 2 for an error.
func (p *program) search(ctx context.Context, args []string) int { return p.searchAs(ctx, args, false) }

// searchAs is search, under the stock name or ours.
func (p *program) searchAs(ctx context.Context, args []string, stock bool) int {
	o, err := render.ParseSearch(args, stock)
	switch {
	case errors.Is(err, search.ErrNoOptions):
		fmt.Fprint(p.stdio.Out, search.Usage+searchUsage)
		if stock {
			return 1
		}
		return search.CodeError
	case err != nil:
		return p.wrong(err, "search", stock)
	case o.Help:
		fmt.Fprint(p.stdio.Out, search.Usage+searchUsage)
		return 0
	case o.Version:
		fmt.Fprintln(p.stdio.Out, "ausearch version "+search.StockVersion+" in auditfleet collector "+p.version)
		return 0
	}
	a := &lookedIn{input: o.Input, logs: o.InputLogs, known: senderOption(len(o.Query.From) > 0, o.Query.Mismatch), extra: o.Extra, stock: stock}
	o.Extra = noteOptions(o.Extra)
	if err := a.onePlace(); err != nil {
		return p.wrong(err, "search", stock)
	}
	ctx, screen := terminal.Open(ctx, p.stdio.Out, p.stdio.Err, o.Screen(stock))
	o.ShowOn(screen.Color, screen.People)
	return p.end(screen, "search", p.searchOn(ctx, o, a, screen))
}

func (p *program) searchOn(ctx context.Context, o *search.Options, a *lookedIn, screen *terminal.Screen) int {
	piped, err := p.begin(ctx, o.Notes, a, screen)
	switch {
	case err != nil:
		fmt.Fprintln(screen.Err, err)
		return o.Failed()
	case o.Input != "" || piped:
		if p.fleetFiles {
			render.OfFleet(o, screen.Err)
		}
		return search.RunFiles(ctx, o, time.Local, "", search.Stdio{In: p.stdio.In, Out: screen.Out, Err: screen.Err})
	case o.Checkpoint != "":
		return p.searchNew(ctx, o, screen.Out)
	}
	asJSON := o.Format == output.FormatJSON && !o.Count
	return p.ask(ctx, a, "search", o.Failed(), asJSON, screen, func(src source) int {
		if all, ok := src.(interface{ SayAtOnce(func(api.Lack)) }); ok && o.Follow {
			all.SayAtOnce(func(f api.Lack) { fmt.Fprintln(screen.Err, f.Line("search")) })
		}
		return render.Search(ctx, o, src, screen.Out, screen.Err)
	})
}

// ask opens what the options say to look in and runs a command on it; failed is the exit
// code when that cannot be opened. asJSON says that what the answer lacks is an object in it, too.
func (p *program) ask(ctx context.Context, a *lookedIn, name string, failed int, asJSON bool, screen *terminal.Screen, run func(source) int) int {
	src, err := whereOf(a.extra).openAll(ctx, p, screen.Err)
	if err != nil {
		fmt.Fprintf(screen.Err, "%s: %v\n", name, err)
		return failed
	}
	code := lacking(src, name, run(src), asJSON, screen.Out, screen.Err)
	if err := src.Close(); err != nil {
		fmt.Fprintf(screen.Err, "%s: %v\n", name, err)
		return failed
	}
	return code
}

// noteOptions returns the options with what the environment says of the line about trails that are not complete: off, or
// how long to wait for it.
func noteOptions(extra map[string][]string) map[string][]string {
	said := os.Getenv("AUDITFLEET_COVERAGE_NOTE")
	if said == "" {
		return extra
	}
	if extra == nil {
		extra = map[string][]string{}
	}
	if said == "off" {
		extra["--no-coverage-note"] = nil
	} else {
		extra[render.NoteWait] = []string{said}
	}
	return extra
}

func last(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}
