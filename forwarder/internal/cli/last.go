package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/last"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/search"
)

// lastOptions and lastlogOptions are what last and lastlog take.
func lastOptions() option.Table    { return append(last.OptionTable(), configOption...) }
func lastlogOptions() option.Table { return append(last.LoginOptionTable(), configOption...) }

func newLastCommand(std Stdio) *cobra.Command {
	return completion.Help(&cobra.Command{
		Use:                "last [aulast options] [--config FILE]",
		Short:              "List the logins in this host's own log, in aulast's words",
		DisableFlagParsing: true,
		ValidArgsFunction:  completion.By(lastOptions(), option.Words{}),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runLast(cmd.Context(), args, std, false)
		},
	}, last.Usage+configUsage)
}

func newLastlogCommand(std Stdio) *cobra.Command {
	return completion.Help(&cobra.Command{
		Use:                "lastlog [aulastlog options] [--config FILE]",
		Short:              "List when each account of this host last logged in, in aulastlog's words",
		DisableFlagParsing: true,
		ValidArgsFunction:  completion.By(lastlogOptions(), option.Words{}),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runLastlog(cmd.Context(), args, std, false)
		},
	}, last.LoginUsage+configUsage)
}

// runLast is aulast on this host, under the stock name or ours. An error is 1 there, and 2
// under our name.
func runLast(ctx context.Context, args []string, std Stdio, stock bool) error {
	o, err := last.ParseArgs(configOption.SplitEquals(args), stock, configOption.Valued())
	if err == nil {
		err = oneConfig(o.Extra)
	}
	switch {
	case err != nil:
		return wrongWords(std, err, "last", stock)
	case o.Help:
		fmt.Fprint(std.Out, last.Usage+configUsage)
		return nil
	}
	o.Locale = search.Env{}.LocaleName()
	log, _ := localLog(std, lastOf(o.Extra["--config"]))
	return lastCode(last.RunFiles(ctx, o, time.Local, log, last.Stdio{In: std.In, Out: std.Out, Err: std.Err}))
}

// runLastlog is aulastlog on this host, as runLast is aulast.
func runLastlog(ctx context.Context, args []string, std Stdio, stock bool) error {
	o, err := last.ParseLoginArgs(configOption.SplitEquals(args), stock, configOption.Valued())
	if err == nil {
		err = oneConfig(o.Extra)
	}
	switch {
	case err != nil:
		return wrongWords(std, err, "lastlog", stock)
	case o.Help:
		fmt.Fprint(std.Out, last.LoginUsage+configUsage)
		return nil
	}
	o.Locale = search.Env{}.LocaleName()
	log, _ := localLog(std, lastOf(o.Extra["--config"]))
	return lastCode(last.RunLoginFiles(ctx, o, time.Local, log, last.Stdio{In: std.In, Out: std.Out, Err: std.Err}))
}

func lastCode(code int) error {
	if code == 0 {
		return nil
	}
	return exitCode(code)
}
