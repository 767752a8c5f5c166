package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// What only some stores can do is an interface of its own that says what it promises: Importer, Compactor, seal.Keeper,
// evidence.Groups. A store can do it where it has the interface's methods. Whoever needs one asks Able, and says to the
// user what to do instead where it is not there; nobody asks which engine a store has.

// Remote is a store whose events are not on the disk of its folder: to drop them makes no room there.
type Remote interface{ Remote() }

// Spooler is a store that keeps batches on its disk until an engine elsewhere takes them.
type Spooler interface {
	// Waiting says what waits. It asks nobody.
	Waiting() Waiting
	// GiveRoom has what the engine has by now leave the disk, which is full, however little that is. It waits for nothing.
	GiveRoom()
}

// Asider is a store that sets aside what was damaged before its engine had it.
type Asider interface {
	// SetAside returns the batches that no engine has, nor ever gets.
	SetAside() map[uint64]bool
}

// Waiting is what waits for an engine.
type Waiting struct {
	Batches       int
	Events, Bytes uint64 // of records, which take a fraction of that on the disk
	// Since is when the engine did not take a batch first, since it took one last, and Err what it said last; zero and nil while it takes what comes.
	Since time.Time
	Err   error
}

// Sharing is a store whose events may lie where other collectors drop them, too.
type Sharing interface {
	// Shared returns what they tell one another; nil where nobody else drops anything.
	Shared() Shared
}

// Shared is an engine whose events several places drop. What each has on hold is a text that the places know how to read, and the engine does not; "" is nothing.
type Shared interface {
	// ShareHolds makes durable, for all of them, what a place has on hold, unless it has said the same last. What is there when it returns, and is on hold, no other place drops.
	ShareHolds(ctx context.Context, text string) error
	// OthersHolds returns what other places have on hold, by their IDs, as it was read with Stats.
	OthersHolds(ctx context.Context) (map[string]string, error)
	// HoldBy has each Drop ask, once it has read anew what others have on hold, whether these texts hold the part: fn returns why, or "". Without it, any text holds all.
	HoldBy(fn func(ctx context.Context, p *PartStats, others map[string]string) string)
}

// ErrUnable is returned by Able for what a store cannot do.
var ErrUnable = errors.New("the engine that keeps this store's events cannot do that")

// Able returns what can do a thing that only some stores can; what is that thing, in words for the error, which wraps ErrUnable.
func Able[T any](s any, what string) (T, error) {
	can, ok := s.(T)
	if !ok {
		return can, fmt.Errorf("%s: %w", what, ErrUnable)
	}
	return can, nil
}

// Dropping is an engine that says which parts are gone that had batches of a place, whoever dropped them.
type Dropping interface {
	// Drops returns them, by part. Those that a program of before has dropped, which said less, are not among them.
	Drops(ctx context.Context) ([]DroppedPart, error)
}

// OwnDropping is a Dropping engine that says of a part that it drops what of it was the place's own, as it has it itself: what others may have said of the part meanwhile, or
// before, is not in that.
type OwnDropping interface {
	// DropOwn is Drop. It returns nil where the part had nothing of the place.
	DropOwn(ctx context.Context, part Part, why string) (*DroppedPart, error)
}

// DroppedPart is a part that is gone, and what of it was a place's own.
type DroppedPart struct {
	Part         Part
	Class        string // of which its events were; "": of batches that were not divided
	At           time.Time
	By           string // the ID of the store whose collector has dropped it
	Why          string // as Drop was told
	First, Last  uint64 // of the place's batches in it
	Batches      uint64
	Events       uint64
	MinMs, MaxMs int64 // of these
	DayGone      bool  // no part of the day is left
	ClassGone    bool  // of one with a class: no part of the day has events of it any more
	// There are, of one that is Undivided, the classes of which parts of the day have events: what others had in it is gone with it.
	There []string
}
