package query

import (
	"context"
	"errors"

	"github.com/auditfleet/auditfleet/pkg/event"
)

// ErrStop is returned by what is given events, to end a scan that has enough. The
// scan then returns nil.
var ErrStop = errors.New("search: stopped")

// Source is where a search goes: a store, or logs.
type Source interface {
	// Scan gives fn the events that q finds, in order, at most limit of them when
	// that is not 0. The event is fn's to keep. ErrStop from fn ends it without an
	// error; others are returned.
	Scan(ctx context.Context, q *Query, limit uint64, fn func(*event.Event) error) error
}

// Batched is a collector's store as a Source: it gets events in batches that are
// numbered from 1 on and never change.
type Batched interface {
	Source
	// LastBatch says which store it is ("": that is not known) and what its last batch
	// is. Nothing is added to that batch and those before it.
	LastBatch(ctx context.Context) (store string, last uint64, err error)
}

// Live is a Source that also has what is to come.
type Live interface {
	// Follow gives fn the events that q finds as they are complete, those there
	// are already first when q.StartMs says so, until ctx ends or fn fails. lost,
	// if it is not nil, is told of events that came faster than fn took them.
	Follow(ctx context.Context, q *Query, fn func(*event.Event) error, lost func(n uint64)) error
}

// Counter is a Source that can count without handing the events out.
type Counter interface {
	Count(ctx context.Context, q *Query, limit uint64) (uint64, error)
}

// Indexed is a Source that finds a few events in little time. Of others each scan
// reads everything.
type Indexed interface{ Indexed() bool }

// IsIndexed says whether a source finds a few events in little time.
func IsIndexed(src Source) bool {
	ix, ok := src.(Indexed)
	return ok && ix.Indexed()
}
