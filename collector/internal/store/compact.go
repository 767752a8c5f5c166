package store

import (
	"context"
	"errors"
	"time"
)

// Compaction says which days are compacted, and how.
type Compaction struct {
	// After is how long a day is over before it is compacted. An import's part is compacted ImportAfter the last
	// batch of it: until then the import can be taken back. Of one that is continued, what was begun several times as long ago is.
	After, ImportAfter time.Duration
	// Today has parts of a day compacted that is not over, too, but for the one that gets batches.
	Today bool
	// Groups is how many groups the part that gets batches has, of the day that runs, before it is ended and merged into a few large
	// ones, and so are parts that were merged before, in tiers; 0: what comes on a day stays as it comes until the day is over.
	Groups int
	// Oldest is how many days an event may be older than the day of its receipt to go to its own day.
	Oldest int
	// Classes are the classes of retention by which days are divided; those compacted before stay as they are.
	Classes Classes
	// Rate is how many bytes of records are rewritten a second at most; 0: no bound.
	Rate int64
	// Spare is how much room on the disk is left beside what a compaction needs.
	Spare uint64
}

// Compacted is what one compaction has done.
type Compacted struct {
	From, Into    []Part
	Events        uint64
	RawBytes      uint64 // of its records
	Before, After uint64 // bytes on the disk
	Took          time.Duration
}

// Compactor is a Store that compacts days: once no batch goes to a part any more, its events are written again into parts of
// the days in which they happened. What searches find stays the same, and each event's batch.
type Compactor interface {
	// Compact compacts one day that waits for it, or parts of the one that runs, the oldest first, and returns nil when none does. Searches and batches go on
	// meanwhile. What cannot be compacted stays as it is, and is left alone for an hour, and for twice as long each time that it fails again, a day at
	// most. Errors: ErrNoRoom and others.
	Compact(ctx context.Context, c Compaction) (*Compacted, error)
	// Compactable returns how many parts wait for compaction, and the bytes of their events as they are stored.
	Compactable(c Compaction) (parts int, bytes uint64)
	// Uncompacted returns what could not be compacted, and waits to be tried again; the oldest first.
	Uncompacted(c Compaction) []Uncompacted
}

// Uncompacted is what could not be compacted.
type Uncompacted struct {
	Part        Part      // the first of those that were to be
	Since, Next time.Time // when it failed first, and when it is tried again
	Times       int       // that it was tried
	Err         error     // of the last time
}

// ErrNoRoom is returned when the disk has no room for both what is there and what is made of it.
var ErrNoRoom = errors.New("the disk has too little room to compact")
