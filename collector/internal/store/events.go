package store

import (
	"context"
	"errors"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Events is access to the stored events, whichever engine keeps them. Any number of
// goroutines may call its methods at once.
type Events interface {
	// Snapshot returns the events as they are now, for one query. The caller must close
	// it. Snapshot fails rather than lack a batch for which Append has returned nil.
	Snapshot(ctx context.Context) (Snapshot, error)
	// Stats returns the present sizes of the whole and of each part.
	Stats(ctx context.Context) (Stats, error)
	// PartHosts calls fn with the name of each host that has events in a part, "" for the host of
	// mixed nodes, and with some of them more than once. Errors: ErrNoDay, ErrDamaged.
	PartHosts(ctx context.Context, part Part, fn func(host string)) error
	// Drop deletes a whole part, but never the one being written. Snapshots that were
	// made before go on reading it. A log of what is stored has why, in words. Errors: ErrNoDay, ErrInUse.
	Drop(ctx context.Context, part Part, why string) error
	// Rotate ends the part being written: later batches of its day go to another part. It
	// does nothing when the part has no events, or where days are not divided.
	Rotate(ctx context.Context) error
	// Missing returns one error for each thing that answers may lack: a file that is
	// damaged, set aside or not there, and what a search could not read.
	Missing() []error
	// MayOpen returns how many file descriptors the engine may still open beside those
	// it has open now.
	MayOpen() int
}

// Damage is an error of Events.Missing that knows something of the events that answers may lack:
// their times (0, 0: nothing), how many records they have, 0 where nobody knows, and of how
// many hosts at most.
type Damage interface {
	error
	Extent() (fromMs, toMs int64, records, hosts uint64)
}

// HostDamage is a Damage that knows whose all the events were: "" where it does not.
type HostDamage interface {
	Damage
	Host() string
}

// Engine keeps events outside the Place's transactions. The collector may die after the
// engine has stored a batch and before Append has returned, and Append may return an error
// for a batch that was stored after all. So each batch stays in the place's outbox until
// Append has returned nil: it is appended again after any error, and after every restart
// that finds it there, with those before it that are still there. Batches come one at a time, in the order of their IDs, but for that.
type Engine interface {
	Events
	// Append stores a batch durably, exactly once for its ID. A batch that is appended
	// again has the same events, byte for byte and in the same order, so an engine may
	// recognise it by its ID alone.
	Append(ctx context.Context, b *Sealed) error
	// Close releases everything. Snapshots must be closed before.
	Close() error
}

// Sealed is a batch's events as they lie in the outbox: they never change.
type Sealed struct {
	// ID ascends, with holes: a batch without events has an ID and is not handed over.
	// IDs count within one store, so an engine that several collectors share must keep
	// their IDs apart.
	ID uint64
	// Day is the day of receipt.
	Day Day
	// Division says of which class each event is; nil: they are not divided. An engine gives each class parts of its own, and numbers the events by their places in it.
	Division *Division
	// Each calls fn with each event: host after host, by name, and of each host in order
	// of time, node and serial. The event is valid until fn returns. An error of fn ends
	// the walk and is returned as it is; any other error wraps ErrDamaged.
	Each func(fn func(host string, ev *event.Event) error) error
}

// Stats are the sizes of what is stored.
type Stats struct {
	Events, Records uint64 // stored now
	RawBytes        uint64 // their text
	DiskBytes       uint64
	IndexBytes      uint64      // of DiskBytes
	MinMs, MaxMs    int64       // of events; 0 when there are none
	Lingering       uint64      // bytes of parts that were dropped, which snapshots keep on the disk
	Parts           []PartStats // by day and number
	// Now is the clock of the servers that have the events, which goes for all collectors that drop them; zero: they are on this machine.
	Now time.Time
}

// mostApart is how far two clocks may differ of which neither is taken for wrong.
const mostApart = 24 * time.Hour

// ClocksAgree says whether a machine's clock and that of a cluster's servers may both be right. Where they cannot, nobody knows how old anything is.
func ClocksAgree(own, servers time.Time) bool { return own.Sub(servers).Abs() <= mostApart }

// PartStats are the sizes of one part.
type PartStats struct {
	Part
	LastID                          uint64 // of its last batch with events; 0: there is none
	Events, Records                 uint64
	RawBytes, DiskBytes, IndexBytes uint64
	MinMs, MaxMs                    int64
	Sealed                          bool // it is not being written
	Received                        Day  // the last day on which its events were received
	Compacted                       bool // its events happened on its day, as far as their hosts' clocks are trusted; else they were received on it
	Imported                        bool // its events are an import's, and happened at any time from MinMs to MaxMs
	// Class is the name of the class of retention that its events are of; "" where it was not divided by classes, Undivided where they may be of any.
	Class string
}

// Snapshot answers queries from the batches that were stored when it was made. What is
// appended, dropped or rotated later changes nothing in it.
type Snapshot interface {
	// LastID returns the last batch's ID: the snapshot has every batch up to it, and no
	// later one.
	LastID() uint64
	// Scan calls fn with each matching event, in order of time, node, serial and batch;
	// of events that are equal in all that, the one stored earlier comes first. A query
	// with Reverse gets the opposite order, at no more cost. fn runs in the caller's
	// goroutine and may keep the event. The event's bytes are part of a block of up to
	// some hundred KiB, which stays in memory with them: who keeps only a few events copies
	// them. Each event carries its batch; events of batches up to q.AfterBatch are left out.
	//
	// An error of fn ends the scan: query.ErrStop ends it without error, any other one is
	// returned. Damage does not end it: all events that can be read are given, then an
	// error that wraps ErrDamaged is returned.
	Scan(ctx context.Context, q *query.Query, fn func(*event.Event) error) error
	// Tally counts the values of fields over the matching events, as query.Source says;
	// without fields, it counts the events. An event that the index alone cannot count is
	// given to rest instead of being counted, in no order, by one call at a time. The
	// query must be Countable.
	Tally(ctx context.Context, q *query.Query, fields []query.Field, rest func(*event.Event) error) (*query.Tally, error)
	// Close releases what the snapshot holds, such as files of dropped parts.
	Close() error
}

// Scan makes a snapshot of e, scans it as Snapshot.Scan does, and closes it.
func Scan(ctx context.Context, e Events, q *query.Query, fn func(*event.Event) error) (err error) {
	snap, err := e.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	return snap.Scan(ctx, q, fn)
}
