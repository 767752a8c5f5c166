package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/report"
	"github.com/auditfleet/auditfleet/pkg/search"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// reportOptions is what report takes.
func reportOptions() option.Table { return append(report.OptionTable(), whereOptions...) }

// reportCommand is there for `collector --help` and completion; Run goes to report
// directly.
func (p *program) reportCommand() *cobra.Command {
	return completion.Help(&cobra.Command{
		Use:                "report [aureport options] [--by FIELDS] [--every TIME] [--from NET] [--store DIR | --api SOCKET]",
		Short:              "Report on the events of all hosts, in aureport's words",
		DisableFlagParsing: true,
		ValidArgsFunction:  completion.By(reportOptions(), option.Words{}),
		RunE: func(cmd *cobra.Command, args []string) error {
			if p.code = p.report(cmd.Context(), args); p.code != 0 {
				return errReported
			}
			return nil
		},
	}, report.Usage+searchUsage)
}

// report is aureport over the fleet, and on files with -if or --input-logs. Exit
// codes are the stock tool's: 1 is an error, or a list without lines.
func (p *program) report(ctx context.Context, args []string) int { return p.reportAs(ctx, args, false) }

// reportAs is report, under the stock name or ours.
func (p *program) reportAs(ctx context.Context, args []string, stock bool) int {
	o, err := report.ParseArgs(reportOptions().SplitEquals(args), search.Env{Strangers: true, Extra: whereOptions.Valued()})
	switch {
	case err != nil:
		fmt.Fprintln(p.stdio.Err, err)
		return 1
	case o.Help:
		fmt.Fprint(p.stdio.Out, report.Usage+searchUsage)
		return 0
	case o.Version:
		fmt.Fprintln(p.stdio.Out, "aureport version "+search.StockVersion+" in auditfleet collector "+p.version)
		return 0
	}
	if o.From, err = networks(o.Extra["--from"]); err != nil {
		fmt.Fprintln(p.stdio.Err, err)
		return 1
	}
	ctx, screen := terminal.Open(ctx, p.stdio.Out, p.stdio.Err, o.Screen(stock))
	o.ShowOn(p.stdio.Out)
	code := p.reportOn(ctx, o, screen)
	if err := screen.Close(); err != nil {
		fmt.Fprintf(p.stdio.Err, "report: %v\n", err)
	}
	if screen.Left() {
		return 0
	}
	return code
}

func (p *program) reportOn(ctx context.Context, o *report.Options, screen *terminal.Screen) int {
	switch files := o.Input != "" || o.InputLogs; {
	case files && len(o.From) > 0:
		fmt.Fprintln(screen.Err, errFromFile)
		return 1
	case files:
		return report.RunFiles(ctx, o, time.Local, "", search.Stdio{In: p.stdio.In, Out: screen.Out, Err: screen.Err})
	}
	code, err := p.reportStore(ctx, o, screen.Out)
	var usage *report.UsageError
	switch {
	case errors.As(err, &usage):
		fmt.Fprintln(screen.Err, usage.Text)
		return 1
	case err != nil:
		fmt.Fprintf(screen.Err, "report: %v\n", err)
		return 1
	}
	return code
}

func (p *program) reportStore(ctx context.Context, o *report.Options, out io.Writer) (code int, err error) {
	src, err := where{store: last(o.Extra["--store"]), api: last(o.Extra["--api"])}.open(ctx, p)
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	o.ByValue = true // events of many hosts have no order in which values came up
	if o.Kind == report.LogTimes {
		logs, err := hostTimes(ctx, src, o)
		if err != nil {
			return 1, err
		}
		return 0, report.WriteLogTimes(out, o, time.Local, logs)
	}
	if narrowed := o.StartMs != 0 || len(o.From)+len(o.Terms)+len(o.Filters) > 0; narrowed && o.Kind == report.Overview {
		err := src.Scan(ctx, &query.Query{Nodes: o.Nodes, Limit: 1}, func(ev *event.Event) error {
			o.FirstMs = ev.Ms
			return nil
		})
		if err != nil {
			return 1, fmt.Errorf("begin of the logs: %w", err)
		}
	}
	return report.RunTally(ctx, o, time.Local, src.Tally, src.Scan, out)
}

// hostTimes is when the first and the last event of each host was.
func hostTimes(ctx context.Context, src source, o *report.Options) ([]report.LogTime, error) {
	hosts, err := src.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	var logs []report.LogTime
	for _, h := range hosts {
		l := report.LogTime{Name: string(h.GetName())}
		if len(o.Nodes) > 0 && !slices.Contains(o.Nodes, l.Name) {
			continue
		}
		q := &query.Query{Nodes: []string{l.Name}, From: o.From, StartMs: o.StartMs, EndMs: o.EndMs, Limit: 1}
		for _, end := range []*int64{&l.FirstMs, &l.LastMs} {
			err := src.Scan(ctx, q, func(ev *event.Event) error {
				*end = ev.Ms
				return nil
			})
			if err != nil {
				return nil, fmt.Errorf("times of %s: %w", l.Name, err)
			}
			q.Reverse = true
		}
		logs = append(logs, l)
	}
	return logs, nil
}
