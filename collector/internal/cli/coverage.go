package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/collector/internal/render"
	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/nearest"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/search"
	"github.com/auditfleet/auditfleet/pkg/terminal"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// Exit codes of coverage, for cron.
const (
	exitCoverageFailed = 1 // whether trails are complete could not be found out
	exitCoverageUsage  = 2
	exitIncomplete     = 3 // some trail is not complete
)

const coverageUsage = `usage: coverage [options]

Says of each host whether its trail is complete, in a line: complete; lost N, with cause, hop and time; unknown, and
why; pending, what the host still holds. Nothing is taken for complete that nobody answers for: our forwarder does,
every minute (op=alive); of other senders the kernel's serials do, which is weaker, for events that found the
kernel's backlog full have none. On a terminal a bar has a character for each day.

       -n, --node NAME          only these hosts, by name or pattern; several with commas
       -ts, --start DATE        from then on; without it from each host's first word
       -te, --end DATE          up to then; without it to its last word
       --detail                 all that is known of each host, with each interval that is not complete
       --format text|json|csv   how the answer is written
       --store DIR              the collector's store: asks the collector that has it, or reads it when none does
       --api SOCKET             the query socket of a running collector
       --server HOST:PORT       a collector on another machine, by its gRPC port, as who --tls-cert says
` + alsoUsage + `       --tls-ca FILE --tls-cert FILE --tls-key FILE
                                by what it is known, and who asks
       -h, --help               this help

The exit code is 0 when all are complete, 3 when one is not, 2 for wrong words and 1 when it could not be found out.
`

// coverageOptions is what coverage takes: the words of search that choose hosts and times, and
// where to look.
func coverageOptions() option.Table {
	var table option.Table
	for _, name := range []string{"--node", "--start", "--end", "--help"} {
		table = append(table, *search.OptionTable().Find(name))
	}
	for _, o := range render.Options {
		if !slices.ContainsFunc(o.Names, func(n string) bool {
			return slices.Contains([]string{"--mismatch", "--from", "--coverage", "--no-coverage-note"}, n)
		}) {
			table = append(table, o)
		}
	}
	return append(table,
		option.Option{Names: []string{"--detail"}, Brief: "all that is known, with each interval that is not complete"},
		option.Option{Names: []string{"--format"}, Value: "FORMAT", Brief: "how the answer is written", Equals: true, Words: option.These("text", "json", "csv")})
}

// coverageCommand serves `collector --help` and completion only; Run calls coverage itself.
func (p *program) coverageCommand() *cobra.Command {
	return completion.Help(&cobra.Command{
		Use:                "coverage [-n HOST] [-ts DATE] [-te DATE] [--detail] [--format text|json|csv] [--store DIR | --api SOCKET]",
		Short:              "Say whether hosts' trails are complete, and what is missing",
		DisableFlagParsing: true,
		ValidArgsFunction:  completion.By(fromStore(coverageOptions()), option.Words{}),
		RunE:               func(cmd *cobra.Command, args []string) error { return p.coded(p.coverage(cmd.Context(), args)) },
	}, coverageUsage)
}

// coverageAsked is what the words of coverage ask.
type coverageAsked struct {
	words  *search.Options
	detail bool
	format string
}

// parseCoverage reads the words.
func parseCoverage(args []string) (*coverageAsked, error) {
	table := coverageOptions()
	args = table.SplitEquals(args)
	a := &coverageAsked{format: "text"}
	rest := []string{"--raw"} // search wants some word
	for i := 0; i < len(args); i++ {
		o := table.Find(args[i])
		switch {
		case o == nil:
			return nil, fmt.Errorf("%.200q is no option of coverage%s", args[i], nearest.Hint(args[i], table.Names()))
		case slices.Contains(o.Names, "--detail"):
			a.detail = true
			continue
		case slices.Contains(o.Names, "--format"):
			if i++; i == len(args) || !slices.Contains([]string{"text", "json", "csv"}, args[i]) {
				return nil, errors.New("--format: it is text, json or csv")
			}
			a.format = args[i]
			continue
		}
		n := withValues(o, args[i:])
		rest = append(rest, args[i:i+n]...)
		i += n - 1
	}
	var err error
	if a.words, err = render.ParseSearch(rest, false); err != nil {
		return nil, err
	}
	return a, (&lookedIn{extra: a.words.Extra}).onePlace()
}

// withValues is how many words an option is with its values: words begins with it.
func withValues(o *option.Option, words []string) int {
	n := 1
	for o.Value != "" && n-1 <= o.More && n < len(words) && (n == 1 || !strings.HasPrefix(words[n], "-")) {
		n++
	}
	return n
}

// coverage runs `collector coverage`.
func (p *program) coverage(ctx context.Context, args []string) int {
	a, err := parseCoverage(args)
	switch {
	case err != nil:
		fmt.Fprintf(p.stdio.Err, "coverage: %v\n%s", err, command.Try("collector coverage"))
		return exitCoverageUsage
	case a.words.Help:
		fmt.Fprint(p.stdio.Out, coverageUsage)
		return 0
	}
	view := viewOn(p.stdio.Out, a.detail, time.Local, os.Getenv)
	list, lacks, whole, err := p.askCoverage(ctx, a, a.detail || a.format == "text" && view.width > 0)
	if err != nil {
		fmt.Fprintf(p.stdio.Err, "coverage: %v\n", err)
		return exitCoverageFailed
	}
	for _, c := range list {
		switch {
		case !c.GetUnheard():
		case len(c.GetHost()) == 0: // a check that nobody is there for must not look like a good one
			fmt.Fprintln(p.stdio.Err, "coverage: no host has sent anything yet")
			if !whole {
				_ = write(p.stdio.Out, lacks) // it has failed as it is
				return exitCoverageFailed
			}
			return exitIncomplete
		default:
			fmt.Fprintf(p.stdio.Err, "coverage: no host is called %.300q: `collector hosts` lists them\n", c.GetHost())
		}
	}
	var text []byte
	out := p.stdio.Out
	switch a.format {
	case "json":
		text, out = append(coverageJSON(list, a.detail), lacks...), terminal.GuardAs(out, terminal.JSON)
	case "csv":
		text, err = coverageCSV(list, a.detail)
	default:
		text, out = view.text(list), terminal.GuardAs(out, terminal.Styled)
	}
	if err == nil {
		err = write(out, text)
	}
	if err != nil {
		fmt.Fprintf(p.stdio.Err, "coverage: %v\n", err)
		return exitCoverageFailed
	}
	switch {
	case !whole:
		return exitCoverageFailed
	case slices.ContainsFunc(list, func(c *fleet.Coverage) bool { return c.GetState() != "complete" }):
		return exitIncomplete
	}
	return 0
}

// askCoverage asks whom the words say. whole is false where one of several collectors did not answer, which it says; lacks says it in JSON, where that is asked for.
func (p *program) askCoverage(ctx context.Context, a *coverageAsked, intervals bool) (list []*fleet.Coverage, lacks []byte, whole bool, err error) {
	src, err := whereOf(a.words.Extra).openAll(ctx, p, p.stdio.Err)
	if err != nil {
		return nil, nil, false, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	q := &a.words.Query
	req := &fleet.CoverageRequest{FromMs: q.StartMs, ToMs: q.EndMs, Intervals: intervals}
	for _, n := range q.Nodes {
		req.Hosts = append(req.Hosts, []byte(n))
	}
	err = src.Coverage(ctx, req, func(c *fleet.Coverage) error {
		list = append(list, c)
		return nil
	})
	var said bytes.Buffer
	whole = lacking(src, "coverage", 0, a.format == "json", &said, p.stdio.Err) == 0
	return list, said.Bytes(), whole, err
}
