package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/search"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// configUsage goes after the options of search and report.
const configUsage = ` where to look
       --config FILE            the auditd.conf that names the log; ` + auditdConf + ` unless given
`

var configOption = option.Table{
	{Names: []string{"--config"}, Value: "FILE", Brief: "the auditd.conf that names the log", Equals: true, Words: option.Files},
}

// searchOptions is what search takes.
func searchOptions() option.Table { return append(search.OptionTable(), configOption...) }

func newSearchCommand(std Stdio, version string) *cobra.Command {
	return completion.Help(&cobra.Command{
		Use:                "search [ausearch options] [--config FILE]",
		Short:              "Find events in this host's own log, in ausearch's words",
		DisableFlagParsing: true,
		ValidArgsFunction:  completion.By(searchOptions(), option.Words{}),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runSearch(cmd.Context(), args, std, version, false)
		},
	}, search.Usage+configUsage)
}

// runSearch is ausearch on this host, under the stock name or ours. Exit codes are the stock tool's: 0 found,
// 1 nothing found or an error.
func runSearch(ctx context.Context, args []string, std Stdio, version string, stock bool) error {
	o, err := search.ParseArgs(configOption.SplitEquals(args), search.Env{Stock: stock, Extra: configOption.Valued()})
	switch {
	case errors.Is(err, search.ErrNoOptions):
		fmt.Fprint(std.Out, search.Usage+configUsage)
		return exitCode(1)
	case err != nil:
		fmt.Fprintln(std.Err, err)
		return exitCode(1)
	case o.Help:
		fmt.Fprint(std.Out, search.Usage+configUsage)
		return nil
	case o.Version:
		fmt.Fprintln(std.Out, "ausearch version "+search.StockVersion+" in auditfleet forwarder "+version)
		return nil
	}
	log, timeout := localLog(std, lastOf(o.Extra["--config"]))
	if o.EOETimeout == 0 {
		o.EOETimeout = timeout
	}
	ctx, screen := terminal.Open(ctx, std.Out, std.Err, o.Screen(stock))
	o.ShowOn(screen.Color, screen.People)
	for _, note := range o.Notes {
		fmt.Fprintln(screen.Err, note)
	}
	code := search.RunFiles(ctx, o, time.Local, log, search.Stdio{In: std.In, Out: screen.Out, Err: screen.Err})
	if err := screen.Close(); err != nil {
		fmt.Fprintf(std.Err, "search: %v\n", err)
	}
	if code == 0 || screen.Left() {
		return nil
	}
	return exitCode(code)
}

// localLog is the log that auditd.conf names, and how long an event may take.
// What is wrong with other keys is the daemon's to say. Without the file the
// defaults hold, as they do for the stock tool.
func localLog(std Stdio, file string) (log string, timeout time.Duration) {
	path := file
	if path == "" {
		path = auditdConf
	}
	a := conf.DefaultAuditd()
	f, err := conf.Load(path, a.HostSchema())
	if f == nil && (file != "" || !errors.Is(err, fs.ErrNotExist)) {
		fmt.Fprintf(std.Err, "%v\nNOTE - using built-in logs: %s\n", err, a.LogFile)
	}
	return a.LogFile, a.EndOfEventTimeout
}

func lastOf(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}
