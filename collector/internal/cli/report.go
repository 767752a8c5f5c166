package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/collector/internal/render"
	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/report"
	"github.com/auditfleet/auditfleet/pkg/search"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// reportOptions returns the options of report: aureport's, ours, and where to look.
func reportOptions() option.Table { return append(report.OptionTable(), render.Options...) }

// reportCommand serves `collector --help` and completion only; Run calls report itself.
func (p *program) reportCommand() *cobra.Command {
	return completion.Help(&cobra.Command{
		Use:                "report [aureport options] [--by FIELDS] [--every TIME] [--from NET] [--store DIR | --api SOCKET]",
		Short:              "Report on the events of all hosts, in aureport's words",
		DisableFlagParsing: true,
		ValidArgsFunction:  completion.By(fromStore(reportOptions()), option.Words{}),
		RunE:               func(cmd *cobra.Command, args []string) error { return p.coded(p.report(cmd.Context(), args)) },
	}, report.Usage+searchUsage)
}

// report runs `collector report`: aureport over the fleet, or over logs with -if or from a
// pipe. Exit codes are the stock tool's, 1 for a list without lines, but 2 for an error.
func (p *program) report(ctx context.Context, args []string) int { return p.reportAs(ctx, args, false) }

// reportAs does report's work; stock says that the program was called by the stock name.
func (p *program) reportAs(ctx context.Context, args []string, stock bool) int {
	o, err := render.ParseReport(args, stock)
	switch {
	case err != nil:
		return p.wrong(err, "report", stock)
	case o.Help:
		fmt.Fprint(p.stdio.Out, report.Usage+searchUsage)
		return 0
	case o.Version:
		fmt.Fprintln(p.stdio.Out, "aureport version "+search.StockVersion+" in auditfleet collector "+p.version)
		return 0
	}
	a := &lookedIn{input: o.Input, logs: o.InputLogs, known: senderOption(len(o.From) > 0, o.Mismatch), extra: o.Extra, stock: stock}
	o.Extra = noteOptions(o.Extra)
	if err := a.onePlace(); err != nil {
		return p.wrong(err, "report", stock)
	}
	ctx, screen := terminal.Open(ctx, p.stdio.Out, p.stdio.Err, o.Screen(stock))
	o.ShowOn(p.stdio.Out)
	return p.end(screen, "report", p.reportOn(ctx, o, a, screen))
}

// reportOn makes a report from logs or from a collector, and writes it to screen.
func (p *program) reportOn(ctx context.Context, o *report.Options, a *lookedIn, screen *terminal.Screen) int {
	piped, err := p.begin(ctx, o.Notes, a, screen)
	switch {
	case err != nil:
		fmt.Fprintln(screen.Err, err)
		return o.Failed()
	case o.Input != "" || piped:
		if p.fleetFiles {
			render.ReportOfFleet(o)
		}
		return report.RunFiles(ctx, o, time.Local, "", search.Stdio{In: p.stdio.In, Out: screen.Out, Err: screen.Err})
	}
	return p.ask(ctx, a, "report", o.Failed(), o.Format == report.FormatJSON, screen, func(src source) int { return render.Report(ctx, o, src, screen.Out, screen.Err) })
}
