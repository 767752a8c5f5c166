package store

import (
	"context"
	"net/netip"
	"time"

	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// Store is both halves together: where a collector's events are, and how far it is.
type Store interface {
	Place
	Events
}

// Place is what a collector remembers itself, whichever engine keeps its events. It is
// written by one goroutine, that of Append; all else is for many.
//
// A batch is everything that a writer hands over at once: events, and how far it has got
// with them. What must hold after any crash is that the two agree: State is that of the
// last batch whose events are stored, so a writer that begins there again, with the
// journal's records beyond State.LSN and those in State.Open, stores every record
// once. Append ensures it, in one of two ways. With the embedded engine, events
// and state are one transaction. With an Engine the events are sealed and kept in the
// same transaction as the state, then handed to the engine, then let go of.
type Place interface {
	// ID is the store's; the journal has it in its files.
	ID() seglog.ID
	// State is that of the last batch.
	State(ctx context.Context) (*State, error)
	// Append stores a batch durably, exactly once by its ID: when it returns nil, the
	// state is the batch's and its events are in every Snapshot made from then on. After an error
	// the batch is to be appended again, unchanged. It may use b.Events until it
	// returns, together with searches; nothing may be added to them meanwhile.
	Append(ctx context.Context, b *Batch) error
	// Journal is what is known of the journal's segments, KeepJournal makes it durable,
	// with what was found missing of them: Events.Missing has that from then on.
	Journal() seglog.Known
	KeepJournal(k seglog.Known, lost []string) error
	// Close releases all files, the engine's too. Snapshots must be closed before.
	Close() error
}

// Batch is what one Append takes, all or nothing.
type Batch struct {
	// ID numbers batches from 1, without holes. A batch whose ID the store has is
	// there already, and Append does nothing.
	ID uint64
	// Day is that of receipt: the batch goes to the day's last part.
	Day Day
	// Events may be nil when only the rest is to be kept.
	Events *Table
	// LSN and Open are the writer's place in the journal: every record up to LSN
	// is in this or an earlier batch, but for those in Open (ascending).
	LSN  uint64
	Open []uint64
	// Hosts and Senders replace or add to what is kept; the rest stays.
	Hosts   []Host
	Senders []KV
	// Forget are hosts to be kept no longer; their events stay. They go before Hosts.
	Forget []string
}

// State is what a writer needs to go on after a restart: the last batch's.
type State struct {
	ID      uint64
	LSN     uint64
	Open    []uint64
	Hosts   []Host // by name
	Senders []KV   // by key
}

// KV is a small value a writer keeps with its batches. A nil value deletes the key.
type KV struct{ Key, Value []byte }

// Host is what is known of one machine. Times are of receipt.
type Host struct {
	Name string
	// Addrs are the addresses it sent from, the latest first, at most MaxAddrs.
	Addrs       []netip.Addr
	First, Last time.Time
	// LastEventMs is the greatest time of an event.
	LastEventMs int64
	Records     uint64 // stored, ever; retention does not lower it
	Bytes       uint64
	Duplicates  uint64 // resends dropped
	Unparsable  uint64 // stored, but without a readable header
	// Also is the host whose records these are, too, as an administrator said of a
	// sender that did not name itself; "" for none.
	Also string
}

// MaxAddrs is how many addresses of a host are kept.
const MaxAddrs = 4
