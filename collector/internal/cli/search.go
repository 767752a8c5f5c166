package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

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
       --from ADDRESS[/BITS]    only what was received from there, whatever host it names; several with commas
`

// whereOptions are those of search and report that say where to look.
var whereOptions = option.Table{
	{Names: []string{"--store"}, Value: "DIR", Brief: "the collector's store", Equals: true, Words: option.Folders},
	{Names: []string{"--api"}, Value: "SOCKET", Brief: "the query socket of a running collector", Equals: true, Words: option.Files},
	{Names: []string{"--from"}, Value: "ADDRESS[/BITS]", Brief: "only what was received from there", Equals: true},
}

// searchOptions is what search takes.
func searchOptions() option.Table { return append(search.OptionTable(), whereOptions...) }

// searchCommand is there for `collector --help` and completion; Run goes to search
// directly.
func (p *program) searchCommand() *cobra.Command {
	return completion.Help(&cobra.Command{
		Use:                "search [ausearch options] [--from NET] [--store DIR | --api SOCKET]",
		Short:              "Find events of all hosts, in ausearch's words",
		DisableFlagParsing: true,
		ValidArgsFunction:  completion.By(searchOptions(), option.Words{}),
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
	args = whereOptions.SplitEquals(args)
	o, err := search.ParseArgs(args, search.Env{Strangers: !stock, Extra: whereOptions.Valued()})
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
	if o.Query.From, err = networks(o.Extra["--from"]); err != nil {
		fmt.Fprintln(p.stdio.Err, err)
		return 1
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
		return search.RunFiles(ctx, o, time.Local, "", search.Stdio{In: p.stdio.In, Out: screen.Out, Err: screen.Err})
	case o.Checkpoint != "":
		return p.searchNew(ctx, o, screen.Out)
	}
	found, err := p.find(ctx, o, screen.Out)
	if err != nil {
		fmt.Fprintf(screen.Err, "search: %v\n", err)
		return 1
	}
	return o.Exit(int(found), screen.Err)
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

// find writes what is found and counts it.
func (p *program) find(ctx context.Context, o *search.Options, out io.Writer) (found uint64, err error) {
	w := output.NewWriter(out, &o.Config, time.Local)
	src, err := where{store: last(o.Extra["--store"]), api: last(o.Extra["--api"])}.open(ctx, p)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	found, err = search.Find(ctx, o, src, w, out, func(text string) { fmt.Fprintln(p.stdio.Err, text) })
	return found, errors.Join(err, w.Close())
}

func last(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}
