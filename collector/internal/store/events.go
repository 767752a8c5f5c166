package store

import (
	"context"
	"errors"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Events are the stored ones, whichever engine keeps them. It is for many goroutines.
type Events interface {
	// Snapshot is the events as they are now, for one query. It must be closed. It
	// fails where it would lack a batch that Append has said is stored.
	Snapshot(ctx context.Context) (Snapshot, error)
	Stats(ctx context.Context) (Stats, error)
	// Drop forgets a whole part, not the one being written. Snapshots that have it keep
	// it. Errors: ErrNoDay, ErrInUse.
	Drop(ctx context.Context, part Part) error
	// Rotate ends the part being written: what comes for its day goes to another one. It
	// does nothing when there are no events in it, or where days are not divided.
	Rotate(ctx context.Context) error
	// Missing is what answers may lack, a thing each: files that are damaged, set aside
	// or not there.
	Missing() []error
	// MayOpen is how many file descriptors may be opened beside those open now.
	MayOpen() int
}

// Engine keeps events and has no part in a Place's transactions: it may take a batch and
// the collector die before it hears of it, or hear of a failure that was none. So
// each batch stays in the place's outbox until Append has returned nil, and is
// appended again after any error and after every restart that finds it there. Batches
// come one at a time in the order of their IDs.
type Engine interface {
	Events
	// Append stores a batch durably, once by its ID. Appended again it is the same in
	// every byte and in the same order, so an engine may know it by that.
	Append(ctx context.Context, b *Sealed) error
	Close() error
}

// Sealed is a batch's events as they lie in the outbox: they never change.
type Sealed struct {
	// ID ascends; batches without events have one, too, and are not handed over. It
	// counts within one store: an engine that several collectors share has to keep
	// their IDs apart.
	ID  uint64
	Day Day
	// Each gives fn the events of host after host, by name, and of each host in order of
	// time, node and serial. The event is valid until fn returns. An error of fn
	// ends it and is returned; any other one wraps ErrDamaged.
	Each func(fn func(host string, ev *event.Event) error) error
}

// Stats are sizes of what is stored.
type Stats struct {
	Events, Records uint64 // stored now
	RawBytes        uint64 // their text
	DiskBytes       uint64
	IndexBytes      uint64      // of DiskBytes
	MinMs, MaxMs    int64       // of events; 0 when there are none
	Parts           []PartStats // by day and number
}

// PartStats are those of one part.
type PartStats struct {
	Part
	LastID                          uint64 // of its last batch with events; 0: there is none
	Events, Records                 uint64
	RawBytes, DiskBytes, IndexBytes uint64
	MinMs, MaxMs                    int64
	Sealed                          bool // it is not being written
}

// Snapshot answers queries from the batches there were when it was made.
type Snapshot interface {
	// LastID is the last batch's ID: all batches up to it are in the snapshot, and no
	// other.
	LastID() uint64
	// Scan gives fn the matching events in order of time, node, serial and place
	// in the event; of events equal in all that, the earlier stored goes first.
	// For a query with Reverse all of that is turned round, at no more cost.
	// fn runs in the caller's goroutine. The event is fn's to keep; its bytes are
	// part of a block of up to some hundred KiB, so to keep few is to copy them.
	// An error of fn ends the scan: query.ErrStop without error, others are returned.
	// Damage does not end it: what can be read is given, then an error that wraps
	// ErrDamaged is returned. Each event says its batch; of those up to q.AfterBatch
	// there is none.
	Scan(ctx context.Context, q *query.Query, fn func(*event.Event) error) error
	// Tally counts the values of fields, as query.Source has it; without fields, it
	// counts events, and gives rest those that it has to look at. The query must be
	// Countable.
	Tally(ctx context.Context, q *query.Query, fields []query.Field, rest func(*event.Event) error) (*query.Tally, error)
	Close() error
}

// Scan makes a snapshot of events and scans it.
func Scan(ctx context.Context, e Events, q *query.Query, fn func(*event.Event) error) (err error) {
	snap, err := e.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	return snap.Scan(ctx, q, fn)
}
