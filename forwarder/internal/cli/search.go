package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/pkg/command"
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
// 1 nothing found; an error is 1 there, and 2 under our name.
func runSearch(ctx context.Context, args []string, std Stdio, version string, stock bool) error {
	o, err := search.ParseArgs(configOption.SplitEquals(args), search.Env{Stock: stock, Extra: configOption.Valued()})
	switch {
	case errors.Is(err, search.ErrNoOptions):
		fmt.Fprint(std.Out, search.Usage+configUsage)
		return exitCode(errorCode(stock))
	case err != nil:
		return wrongWords(std, err, "search", stock)
	case o.Help:
		fmt.Fprint(std.Out, search.Usage+configUsage)
		return nil
	case o.Version:
		fmt.Fprintln(std.Out, "ausearch version "+search.StockVersion+" in auditfleet forwarder "+version)
		return nil
	}
	o.ErrorCode = errorCode(stock)
	if err := oneConfig(o.Extra); err != nil {
		return wrongWords(std, err, "search", stock)
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

// errorCode is the exit code when a search cannot be made.
func errorCode(stock bool) int {
	if stock {
		return 1
	}
	return search.CodeError
}

// wrongWords says what is wrong with the words of search or report.
func wrongWords(std Stdio, err error, name string, stock bool) error {
	fmt.Fprintln(std.Err, err)
	if !stock {
		fmt.Fprint(std.Err, command.Try("forwarder "+name))
	}
	return exitCode(errorCode(stock))
}

// oneConfig refuses to use one of two configuration files without saying so.
func oneConfig(extra map[string][]string) error {
	for opt, values := range extra {
		for i := 1; i < len(values); i++ {
			if values[i] != values[0] {
				return fmt.Errorf("%s: %w", opt, command.Twice(values[0], values[i]))
			}
		}
	}
	return nil
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
