package render

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/report"
	"github.com/auditfleet/auditfleet/pkg/search"
)

// ParseReport reads the words of report; stock says that they are for the stock name.
func ParseReport(words []string, stock bool) (*report.Options, error) {
	o, err := report.ParseArgs(append(report.OptionTable(), Options...).SplitEquals(words), search.Env{Strangers: true, Stock: stock, Extra: Options.Valued()})
	if err == nil && !stock {
		o.ErrorCode = search.CodeError
	}
	if err == nil && !o.Help && !o.Version {
		o.From, err = networks(o.Extra["--from"])
		_, o.Mismatch = o.Extra["--mismatch"]
	}
	return o, err
}

// Report writes a report to out, and complaints to errs, and returns the exit code,
// which is the stock tool's: 1 is a list without lines, Options.Failed an error.
func Report(ctx context.Context, o *report.Options, src api.Source, out, errs io.Writer) int {
	o.IfNothing = func() {
		if o.ErrorCode == 0 {
			return
		}
		for _, note := range notes(ctx, src, o.Query()) {
			fmt.Fprintln(errs, note)
		}
	}
	coverage := beginNote(ctx, src, o.Query(), o.Extra, o.ErrorCode == 0, o.Format == report.FormatJSON)
	code, err := write(ctx, o, src, out)
	if bad := coverage.Say(ctx, out, errs); err == nil {
		err = bad
	}
	var usage *report.UsageError
	switch {
	case errors.As(err, &usage):
		fmt.Fprintln(errs, usage.Text)
		return o.Failed()
	case err != nil:
		fmt.Fprintf(errs, "report: %v\n", err)
		return o.Failed()
	}
	return code
}

// Summary is an api.Command: `collector report`.
func Summary(ctx context.Context, src api.Source, memory *query.Memory, words []string, out, errs io.Writer) (int, error) {
	o, err := ParseReport(words, false)
	if err != nil {
		return complain(err, errs)
	}
	here := seenOf(o.Extra)
	for opt, given := range map[string]bool{
		"--input": o.Input != "", "--input-logs": o.InputLogs, "--no-pager": o.NoPager, "--help": o.Help, "--version": o.Version,
	} {
		if given {
			here = append(here, opt)
		}
	}
	slices.Sort(here)
	if err := refuse(here); err != nil {
		return 1, err
	}
	o.Memory = memory
	o.Screen(false) // of none
	for _, note := range o.Notes {
		fmt.Fprintln(errs, note)
	}
	return Report(ctx, o, src, out, errs), nil
}

// ReportOfFleet has a report be one of a fleet's events: ids are named by the accounts of
// their own host. Names that were handed in with the words stay.
func ReportOfFleet(o *report.Options) {
	if o.Names == nil {
		o.Names = query.FleetNames()
	}
	o.Fleet = true
}

func write(ctx context.Context, o *report.Options, src api.Source, out io.Writer) (code int, err error) {
	ReportOfFleet(o)
	o.ByValue = true // events of many hosts have no order in which values came up
	if o.Kind == report.LogTimes {
		logs, err := hostTimes(ctx, src, o)
		if err != nil {
			return 1, err
		}
		if len(logs) == 0 {
			o.IfNothing()
		}
		return 0, report.WriteLogTimes(out, o, time.Local, logs)
	}
	if narrowed := o.StartMs != 0 || o.EndMs != 0 || o.Mismatch || len(o.From)+len(o.Terms)+len(o.Filters) > 0; narrowed && o.Kind == report.Overview {
		err := src.Scan(ctx, &query.Query{Nodes: o.Nodes, Limit: 1}, func(ev *event.Event) error {
			o.FirstMs = ev.Ms
			return nil
		})
		if err != nil {
			return 1, fmt.Errorf("begin of the logs: %w", err)
		}
	}
	return report.RunTally(ctx, o, time.Local, report.Source{Tally: src.Tally, Scan: src.Scan, Texts: src}, out)
}

// hostTimes is when the first and the last event of each host was.
func hostTimes(ctx context.Context, src api.Source, o *report.Options) ([]report.LogTime, error) {
	hosts, err := src.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	var logs []report.LogTime
	for _, h := range hosts {
		l := report.LogTime{Name: string(h.GetName())}
		if !(&query.Query{Nodes: o.Nodes}).WantsNode(l.Name) {
			continue
		}
		q := &query.Query{Nodes: []string{l.Name}, From: o.From, Mismatch: o.Mismatch, StartMs: o.StartMs, EndMs: o.EndMs, Limit: 1}
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
