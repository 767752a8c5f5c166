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

// errNotLive is returned for --follow where nothing is to come.
var errNotLive = errors.New("--follow needs a running collector, or a log file")

// Find searches src for what o asks and writes it to w, or, where o asks for
// something else than events, as text to out. It returns how many events were
// found. warn is told of what does not end the search.
func Find(ctx context.Context, o *Options, src query.Source, w output.Writer, out io.Writer, warn func(string)) (found uint64, err error) {
	switch {
	case o.Follow:
		live, ok := src.(query.Live)
		if !ok {
			return 0, errNotLive
		}
		return follow(ctx, o, live, w, warn)
	case o.Tree:
		return trees(ctx, o, src, out)
	case o.Around > 0:
		return around(ctx, o, src, w, out)
	case o.Count:
		found, err = count(ctx, src, &o.Query, o.Limit)
		return found, errors.Join(err, printCount(out, found))
	}
	err = src.Scan(ctx, &o.Query, o.Limit, func(ev *event.Event) error {
		found++
		return written(w.Event(ev))
	})
	return found, err
}

func written(err error) error {
	if err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	return nil
}

func count(ctx context.Context, src query.Source, q *query.Query, limit uint64) (n uint64, err error) {
	if c, ok := src.(query.Counter); ok {
		return c.Count(ctx, q, limit)
	}
	err = src.Scan(ctx, q, limit, func(*event.Event) error { n++; return nil })
	return n, err
}

func printCount(out io.Writer, n uint64) error {
	_, err := fmt.Fprintln(out, n)
	return written(err)
}

func follow(ctx context.Context, o *Options, live query.Live, w output.Writer, warn func(string)) (found uint64, err error) {
	q := o.Query
	if !o.startGiven() {
		q.StartMs = 0
	}
	err = live.Follow(ctx, &q, func(ev *event.Event) error {
		if err := written(w.Event(ev)); err != nil {
			return err
		}
		if found++; found == o.Limit {
			return query.ErrStop
		}
		return nil
	}, func(n uint64) {
		warn(fmt.Sprintf("%d events came faster than they were taken and are not shown: search for them", n))
	})
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
