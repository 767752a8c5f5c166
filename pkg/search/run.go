package search

import (
	"context"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
)

// Events is a source of events in the order they are to be printed. An event is
// valid until the next one is asked for. An error ends it.
type Events = iter.Seq2[*event.Event, error]

// Run writes the events that o's query finds to out, in o's format with times
// in loc, and returns how many it found. It stops at the first one for
// --just-one, and when ctx is done.
func Run(ctx context.Context, o *Options, loc *time.Location, events Events, out io.Writer) (found int, err error) {
	w, err := NewWriter(out, o, loc)
	if err != nil {
		return 0, err
	}
	m := NewMatcher(&o.Query)
	for ev, err := range events {
		if err != nil {
			return found, closeWriter(w, err)
		}
		if err := ctx.Err(); err != nil {
			return found, closeWriter(w, fmt.Errorf("search: %w", err))
		}
		if !m.Match(ev) {
			continue
		}
		found++
		if err := w.Event(ev); err != nil {
			return found, fmt.Errorf("write result: %w", err)
		}
		if o.JustOne {
			break
		}
	}
	return found, closeWriter(w, nil)
}

// closeWriter flushes what was found before an error, which comes first.
func closeWriter(w Writer, err error) error {
	if cerr := w.Close(); err == nil && cerr != nil {
		return fmt.Errorf("write result: %w", cerr)
	}
	return err
}
