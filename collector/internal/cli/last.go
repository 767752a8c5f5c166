package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/collector/internal/render"
	"github.com/auditfleet/auditfleet/pkg/completion"
	logins "github.com/auditfleet/auditfleet/pkg/last"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/search"
)

// lastUsage goes after the options of last and lastlog.
const lastUsage = ` of the fleet, in a collector's store
  -n, --node NAME          only these hosts, by name or pattern; several with commas. Each line
                           begins with its host, unless one host is named
  -ts, --start DATE        only what happened from then on; DATE is as search takes it
  -te, --end DATE          only what happened up to then
  --store DIR              the collector's store: asks the collector that has it, or reads it when
                           none does
  --api SOCKET             the query socket of a running collector
  --server HOST:PORT       a collector on another machine, by its gRPC port, as who --tls-cert says
  --also HOST:PORT[,…]     collectors that are asked as well, by their gRPC ports: the answer is as if
                           one had it all, and says what it lacks of one that is down; none: not
                           those of client.conf
  --also-wait TIME         how long each of several collectors may answer nothing (30s)
  --tls-ca FILE --tls-cert FILE --tls-key FILE
                           by what it is known, and who asks
`

// fleetOptions are what last and lastlog take beside the stock tools' options: which hosts and
// times, and where to look.
func fleetOptions() option.Table {
	var table option.Table
	for _, o := range coverageOptions() {
		if !slices.ContainsFunc(o.Names, func(n string) bool { return n == "--detail" || n == "--format" || n == "--help" }) {
			table = append(table, o)
		}
	}
	return table
}

func lastOptions() option.Table    { return append(logins.OptionTable(), fleetOptions()...) }
func lastlogOptions() option.Table { return append(logins.LoginOptionTable(), fleetOptions()...) }

// lastCommand and lastlogCommand serve `collector --help` and completion only; Run calls last
// and lastlog itself.
func (p *program) lastCommand() *cobra.Command {
	return completion.Help(&cobra.Command{
		Use:                "last [aulast options] [-n HOST] [-ts DATE] [-te DATE] [--store DIR | --api SOCKET]",
		Short:              "List the logins on all hosts, in aulast's words",
		DisableFlagParsing: true,
		ValidArgsFunction:  completion.By(fromStore(lastOptions()), option.Words{}),
		RunE:               func(cmd *cobra.Command, args []string) error { return p.coded(p.last(cmd.Context(), args, false)) },
	}, logins.Usage+lastUsage)
}

func (p *program) lastlogCommand() *cobra.Command {
	return completion.Help(&cobra.Command{
		Use:                "lastlog [aulastlog options] [-n HOST] [-ts DATE] [-te DATE] [--store DIR | --api SOCKET]",
		Short:              "List when each account of all hosts last logged in, in aulastlog's words",
		DisableFlagParsing: true,
		ValidArgsFunction:  completion.By(fromStore(lastlogOptions()), option.Words{}),
		RunE:               func(cmd *cobra.Command, args []string) error { return p.coded(p.lastlog(cmd.Context(), args, false)) },
	}, logins.LoginUsage+lastUsage)
}

// splitFleet divides words into those of the stock tool and what search makes of the others.
func splitFleet(args []string, own option.Table, stock bool) (words []string, fleet *search.Options, err error) {
	table := fleetOptions()
	args = table.SplitEquals(args)
	rest := []string{"--raw"} // search wants some word
	for i := 0; i < len(args); i++ {
		if o := table.Find(args[i]); o != nil {
			n := withValues(o, args[i:])
			rest = append(rest, args[i:i+n]...)
			i += n - 1
			continue
		}
		words = append(words, args[i])
		if o := own.Find(args[i]); o != nil && o.Value != "" && i+1 < len(args) {
			i++
			words = append(words, args[i])
		}
	}
	if fleet, err = render.ParseSearch(rest, stock); err != nil {
		return nil, nil, err
	}
	return words, fleet, (&lookedIn{extra: fleet.Extra}).onePlace()
}

// errFileAndFleet is returned for words that name a log and hosts or a store.
var errFileAndFleet = errors.New("-f and --stdin read a log of one host: -n, -ts, -te, --store, --api, --server and --also are about a collector's store")

// namesLog says that the words name a log, and refuses what is about a store.
func namesLog(named bool, fleet *search.Options) (bool, error) {
	q := &fleet.Query
	if named && (len(fleet.Extra) > 0 || len(q.Nodes) > 0 || q.StartMs != 0 || q.EndMs != 0) {
		return false, errFileAndFleet
	}
	return named, nil
}

// oneHost says that a query is about one host.
func oneHost(q *query.Query) bool { return len(q.Nodes) == 1 && !query.IsPattern(q.Nodes[0]) }

// last runs `collector last`: aulast over the fleet, or over a log with -f or --stdin. Exit
// codes are the stock tool's, but 2 for an error under our name.
func (p *program) last(ctx context.Context, args []string, stock bool) int {
	words, fleet, err := splitFleet(args, logins.OptionTable(), stock)
	if err != nil {
		return p.wrong(err, "last", stock)
	}
	o, err := logins.ParseArgs(words, stock, nil)
	if err != nil {
		return p.wrong(err, "last", stock)
	}
	if o.Help {
		fmt.Fprint(p.stdio.Out, logins.Usage+lastUsage)
		return 0
	}
	std := logins.Stdio{In: p.stdio.In, Out: p.stdio.Out, Err: p.stdio.Err}
	o.Locale = search.Env{}.LocaleName()
	file, err := namesLog(o.HasInput || o.Stdin, fleet)
	switch {
	case err != nil:
		return p.wrong(err, "last", stock)
	case file:
		return logins.RunFiles(ctx, o, time.Local, "", std)
	}
	o.Hosts, o.Names = !oneHost(&fleet.Query), query.FleetNames()
	return p.fromStore(ctx, "last", fleet, o.Failed(), func(records logins.Records) int {
		return logins.Run(ctx, o, time.Local, records, std)
	})
}

// lastlog runs `collector lastlog`, as last does last.
func (p *program) lastlog(ctx context.Context, args []string, stock bool) int {
	words, fleet, err := splitFleet(args, logins.LoginOptionTable(), stock)
	if err != nil {
		return p.wrong(err, "lastlog", stock)
	}
	o, err := logins.ParseLoginArgs(words, stock, nil)
	if err != nil {
		return p.wrong(err, "lastlog", stock)
	}
	if o.Help {
		fmt.Fprint(p.stdio.Out, logins.LoginUsage+lastUsage)
		return 0
	}
	std := logins.Stdio{In: p.stdio.In, Out: p.stdio.Out, Err: p.stdio.Err}
	o.Locale = search.Env{}.LocaleName()
	file, err := namesLog(o.HasInput || o.Stdin, fleet)
	switch {
	case err != nil:
		return p.wrong(err, "lastlog", stock)
	case file:
		return logins.RunLoginFiles(ctx, o, time.Local, "", std)
	}
	o.Names = query.FleetNames()
	return p.fromStore(ctx, "lastlog", fleet, o.Failed(), func(records logins.Records) int {
		return logins.RunLogins(ctx, o, time.Local, records, std)
	})
}

// fromStore runs a command on the records of a collector's store.
func (p *program) fromStore(ctx context.Context, name string, fleet *search.Options, failed int, run func(logins.Records) int) int {
	src, err := whereOf(fleet.Extra).openAll(ctx, p, p.stdio.Err)
	if err != nil {
		fmt.Fprintf(p.stdio.Err, "%s: %v\n", name, err)
		return failed
	}
	code := lacking(src, name, run(logins.Of(src, &fleet.Query)), false, p.stdio.Out, p.stdio.Err)
	if err := src.Close(); err != nil {
		fmt.Fprintf(p.stdio.Err, "%s: %v\n", name, err)
		return failed
	}
	return code
}
