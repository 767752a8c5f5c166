package query

import (
	"context"
	"errors"

	"github.com/auditfleet/auditfleet/pkg/event"
)

var (
	// ErrStop is returned by a function that receives events, to end a scan early. The
	// scan then returns nil.
	ErrStop = errors.New("no more events are wanted")
	// ErrNotLive is returned by Follow when no further events can arrive.
	ErrNotLive = errors.New("nothing is to come: these are files that no collector has")
)

// Source answers queries. It is a running collector, the files of a collector that does
// not run, or logs. Every method respects the whole query, including its Limit.
type Source interface {
	// Scan calls fn with the events that q finds, in order. fn may keep the event. If fn
	// returns ErrStop, Scan ends without an error; any other error of fn ends Scan and is
	// returned. An event that is not complete yet is given as far as it has come, unless the
	// query asks for batches. Of a damaged store, Scan passes on what can be read and then returns the
	// error.
	Scan(ctx context.Context, q *Query, fn func(*event.Event) error) error
	// Follow calls fn with the events that q finds as they become complete, until ctx
	// ends or fn fails. If q.StartMs is not 0, events that already exist come first.
	// Follow calls idle when it has no more events at present; lost is the number of
	// events that it left out since the last call of idle because they arrived faster
	// than fn processed them. Logs leave out no event and do not call idle.
	Follow(ctx context.Context, q *Query, fn func(*event.Event) error, idle func(lost uint64) error) error
	// Tally counts the events that q finds. Without fields it returns their number, up to
	// q.Limit if that is not 0. If it fails, it returns the count so far with the error.
	//
	// With fields, which may include those that only an index has, it counts for each
	// value of each field the events that have it; where it can, it does so without
	// reading the events. q must be Countable. Each event is either counted or passed to
	// rest, never both, in no order. Calls of rest do not overlap, and the event is valid
	// until rest returns. Odd events (FieldOdd) are always passed to rest. A source that
	// is older than a field counts no value of it. After an error
	// the caller must discard what was counted and passed on.
	Tally(ctx context.Context, q *Query, fields []Field, rest func(*event.Event) error) (*Tally, error)
	// About returns what the source knows about itself.
	About(ctx context.Context) (About, error)
}

// TextSource is a source that has its events as text, which nobody has to parse who writes
// it as it is, and which several goroutines may parse at once.
type TextSource interface {
	Source
	// ScanText is Scan with the events as Texts, some at a time, in order. fn may keep them. An
	// error of fn counts as Scan's, but ErrStop ends the scan behind all events of these Texts. q
	// must not ask for Batches, or have an After.
	ScanText(ctx context.Context, q *Query, fn func(Texts) error) error
}

// Texts are some events of an answer, in order. One goroutine may use them.
type Texts interface {
	// Len is how many events there are, and may be called before Open.
	Len() int
	// Open makes the events readable, which may take much longer than to receive them. It is called once,
	// before Event and AppendRaw. Errors: that they are malformed.
	Open() error
	// Done says that nothing of the events is used any more: their memory may be taken for others. Who
	// keeps them does not call it.
	Done()
	// Event parses event i into ev, whose slice of records it uses again: what was read from ev before
	// is no longer valid.
	Event(i int, ev *event.Event)
	// AppendRaw appends the records of event i as they were sent, each with a newline behind it.
	AppendRaw(dst []byte, i int) []byte
}

// About describes a source.
type About struct {
	// Indexed says that the source finds a few events quickly. Every scan of another
	// source reads all of it.
	Indexed bool
	// Store is the ID of a collector's store; "" where it is not known. The store
	// collects events in batches, numbered from 1. Batch is the last batch that is
	// stored: no event is added any more to it or to an earlier one.
	Store string
	Batch uint64
}

// Limited returns a function for a scan: it passes events to fn and ends the scan after
// q.Limit events.
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

// Countable reports whether q restricts only times, hosts, senders and batches. An index
// can count field values of such a query without reading the events.
func (q *Query) Countable() bool {
	return len(q.Types)+len(q.Terms)+len(q.Filters) == 0 && !q.HasSerial && !q.Mismatch
}
