package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/report"
	"github.com/auditfleet/auditfleet/pkg/search"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// confOption names the configuration file. It is not called --config because that option
// is a report.
const confOption = "--auditd-conf"

var auditdConfOption = option.Table{
	{Names: []string{confOption}, Value: "FILE", Brief: "the auditd.conf that names the log", Equals: true, Words: option.Files},
}

// reportOptions is what report takes.
func reportOptions() option.Table { return append(report.OptionTable(), auditdConfOption...) }

// reportUsage goes after the stock options.
const reportUsage = ` where to look
       --auditd-conf FILE       the auditd.conf that names the log; ` + auditdConf + ` unless given
`

// newReportCommand is there for `forwarder --help`, too.
func newReportCommand(std Stdio, version string) *cobra.Command {
	return completion.Help(&cobra.Command{
		Use:                "report [aureport options] [--by FIELDS] [--every TIME] [--auditd-conf FILE]",
		Short:              "Report on this host's own log, in aureport's words",
		DisableFlagParsing: true,
		ValidArgsFunction:  completion.By(reportOptions(), option.Words{}),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runReport(cmd.Context(), args, std, version, false)
		},
	}, report.Usage+reportUsage)
}

// runReport is aureport on this host, under the stock name or ours. Exit codes are the stock tool's: 1 is
// a list without lines; an error is 1 there, and 2 under our name.
func runReport(ctx context.Context, args []string, std Stdio, version string, stock bool) error {
	o, err := report.ParseArgs(reportOptions().SplitEquals(args), search.Env{Stock: stock, Extra: auditdConfOption.Valued()})
	switch {
	case err != nil:
		return wrongWords(std, err, "report", stock)
	case o.Help:
		fmt.Fprint(std.Out, report.Usage+reportUsage)
		return nil
	case o.Version:
		fmt.Fprintln(std.Out, "aureport version "+search.StockVersion+" in auditfleet forwarder "+version)
		return nil
	}
	o.ErrorCode = errorCode(stock)
	if err := oneConfig(o.Extra); err != nil {
		return wrongWords(std, err, "report", stock)
	}
	log, timeout := localLog(std, lastOf(o.Extra[confOption]))
	if o.EOETimeout == 0 {
		o.EOETimeout = timeout
	}
	ctx, screen := terminal.Open(ctx, std.Out, std.Err, o.Screen(stock))
	o.ShowOn(std.Out)
	for _, note := range o.Notes {
		fmt.Fprintln(screen.Err, note)
	}
	code := report.RunFiles(ctx, o, time.Local, log, search.Stdio{In: std.In, Out: screen.Out, Err: screen.Err})
	if err := screen.Close(); err != nil {
		fmt.Fprintf(std.Err, "report: %v\n", err)
	}
	if code == 0 || screen.Left() {
		return nil
	}
	return exitCode(code)
}
