package query

import (
	"context"
	"errors"

	"github.com/auditfleet/auditfleet/pkg/event"
)

var (
	// ErrStop is returned by what is given events, to end a scan that has enough. The
	// scan then returns nil.
	ErrStop = errors.New("search: stopped")
	// ErrNotLive is returned by Follow where nothing is to come.
	ErrNotLive = errors.New("nothing is to come: these are files that no collector has")
)

// Source answers queries: a running collector, the files of one that does not run,
// or logs. Every method honours all of a query, its Limit included.
type Source interface {
	// Scan gives fn the events that q finds, in order. The event is fn's to keep.
	// ErrStop from fn ends it without an error; other errors are returned. Of a damaged
	// store, what can be read is given before the error.
	Scan(ctx context.Context, q *Query, fn func(*event.Event) error) error
	// Follow gives fn the events that q finds as they are complete, until ctx ends or
	// fn fails; those there are already come first when q.StartMs is not 0. idle is
	// called when there is nothing more to give at present, with the number of events
	// that were left out since the last call, for they came faster than fn took them.
	// Logs leave out none and do not call it.
	Follow(ctx context.Context, q *Query, fn func(*event.Event) error, idle func(lost uint64) error) error
	// Tally counts the events that q finds: without fields, how many there are, up to
	// q.Limit where that is not 0. What was counted before an error is returned with it.
	//
	// With fields, which may be those that only an index has, it counts how many events
	// have each of their values, without looking at the events where it can. q must be
	// Countable then. An event is counted or given to rest, never both, in no order;
	// rest's calls do not overlap, and the event is valid until rest returns. Odd
	// events (FieldOdd) are always given. On any error what was counted and given says
	// nothing.
	Tally(ctx context.Context, q *Query, fields []Field, rest func(*event.Event) error) (*Tally, error)
	// About is what the source says of itself.
	About(ctx context.Context) (About, error)
}

// About is what a source says of itself.
type About struct {
	// Indexed says that a few events are found in little time; of other sources each
	// scan reads everything.
	Indexed bool
	// Store is the ID of a collector's store; "" where that is not known. The store
	// gets events in batches that are numbered from 1 on. Batch is the last one that is
	// stored: nothing is added to it and those before it.
	Store string
	Batch uint64
}

// Limited returns fn for a scan that ends after q.Limit events.
func (q *Query) Limited(fn func(*event.Event) error) func(*event.Event) error {
	if q.Limit == 0 {
		return fn
	}
	n := uint64(0)
	return func(ev *event.Event) error {
		if err := fn(ev); err != nil {
			return err
		}
		if n++; n >= q.Limit {
			return ErrStop
		}
		return nil
	}
}

// Countable says whether a query asks for times, hosts, senders and batches only, of
// which an index can count the values of fields.
func (q *Query) Countable() bool {
	return len(q.Types)+len(q.Terms)+len(q.Filters) == 0 && !q.HasSerial
}
