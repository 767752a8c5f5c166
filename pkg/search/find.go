package search

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// errNotLive is returned for --follow when no further events can arrive.
var errNotLive = errors.New("--follow needs a running collector, or a log file")

// Find searches src for the events that o selects and writes them to w; trees and counts
// are written to out as text. It returns the number of events found. It calls warn with
// each warning that does not stop the search.
func Find(ctx context.Context, o *Options, src query.Source, w output.Writer, out io.Writer, warn func(string)) (found uint64, err error) {
	switch {
	case o.Follow:
		return follow(ctx, o, src, w, warn)
	case o.Tree:
		return trees(ctx, o, src, out, warn)
	case o.Around > 0:
		return around(ctx, o, src, w, out)
	case o.Count:
		sum, err := src.Tally(ctx, &o.Query, nil, nil)
		if sum != nil {
			found = uint64(sum.Events)
		}
		if err != nil && found == 0 { // nobody counted: 0 would say that there is nothing
			return 0, err
		}
		return found, errors.Join(err, printCount(out, found))
	}
	if texts, ok := src.(query.TextSource); ok && !o.Debug && !o.Query.Batches && o.Query.After == nil {
		if pages, ok := w.(output.Pages); ok {
			if format := pages.Parallel(); format != nil {
				return findText(ctx, &o.Query, texts, pages, format)
			}
		}
	}
	q, fn := &o.Query, func(ev *event.Event) error {
		found++
		return written(w.Event(ev))
	}
	if o.Debug {
		q, fn = withSkipped(q, fn, warn)
	}
	err = src.Scan(ctx, q, fn)
	return found, err
}

// withSkipped makes the query and the function of a scan that also warns of lines that
// are no records.
func withSkipped(q *query.Query, fn func(*event.Event) error, warn func(string)) (*query.Query, func(*event.Event) error) {
	all := *q
	all.Unparsable, all.Limit = true, 0
	give := q.Limited(fn)
	return &all, func(ev *event.Event) error {
		if r := &ev.Records[0]; !r.IsRecord() {
			warn(skippedLine(r.Raw, r.Err))
			return nil
		}
		return give(ev)
	}
}

func written(err error) error {
	if err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	return nil
}

func printCount(out io.Writer, n uint64) error {
	_, err := fmt.Fprintln(out, n)
	return written(err)
}

func follow(ctx context.Context, o *Options, src query.Source, w output.Writer, warn func(string)) (found uint64, err error) {
	q := o.Query
	if !o.startGiven() {
		q.StartMs = 0
	}
	err = src.Follow(ctx, &q, func(ev *event.Event) error {
		found++
		return written(w.Event(ev))
	}, func(lost uint64) error {
		if lost > 0 {
			warn(fmt.Sprintf("%d events came faster than they were taken and are not shown: search for them", lost))
		}
		return nil
	})
	if errors.Is(err, query.ErrNotLive) {
		return 0, errNotLive
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return found, nil // it was told to end
	}
	return found, err
}

// startGiven says whether the command line names a time to start at.
func (o *Options) startGiven() bool {
	for _, opt := range o.Seen {
		if opt == "--start" {
			return true
		}
	}
	return false
}
