package store

import (
	"context"
	"net/netip"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// Store is both halves together: a collector's own state, and its events.
type Store interface {
	Place
	Events
}

// Place is what a collector remembers itself, whichever engine keeps its events. One
// goroutine calls Append; every other method may be called by many at once.
//
// A batch is everything that a writer hands over at once: events, and its state, which
// says up to which record of the journal it has handed everything over. What must hold
// after any crash is that the two agree: State is the state of the last batch whose events
// are stored. A writer that begins again from it, with the journal's records beyond
// State.LSN and those in State.Open, stores every record exactly once. Append ensures
// that in one of two ways. With the embedded engine, events and state are written by one
// transaction. With an Engine, the events are sealed and written in the same transaction
// as the state, then handed to the engine, and deleted once the engine has them.
type Place interface {
	// ID returns the store's ID, which the journal has in its files, too.
	ID() seglog.ID
	// State returns the state of the last batch; that of a new store is all zero.
	State(ctx context.Context) (*State, error)
	// Append stores a batch durably, exactly once for its ID. Once it returns nil, State
	// is the batch's and every later Snapshot has its events. After an error the caller
	// must append the same batch again, unchanged. Append reads b.Events until it
	// returns; searches may read them at the same time, but nobody may add to them.
	Append(ctx context.Context, b *Batch) error
	// Journal returns what is known of the journal's segments.
	Journal() seglog.Known
	// KeepJournal makes k durable as what is known of the journal's segments. lost is
	// what was found missing of them, in words: Events.Missing has it from then on.
	KeepJournal(k seglog.Known, lost []string) error
	// Ledger calls fn with the rows of some hosts whose time touches that from from to before to, in
	// milliseconds. A host has several of the same time, to be added up; those whose records were
	// dropped say so. host is valid until fn returns. id is the last batch that is in the rows.
	Ledger(ctx context.Context, hosts []string, from, to int64, fn func(host string, row *ledger.Row)) (id uint64, err error)
	// LedgerHosts calls fn with each host that has rows, again and again.
	LedgerHosts(ctx context.Context, fn func(host []byte)) error
	// Holds returns what KeepHolds has kept last.
	Holds() Held
	// KeepHolds makes durable how the list of holds is after a change, and says it in the place's log
	// where there is one: how many holds it has, and what was changed, in words.
	KeepHolds(h Held, holds int, why string) error
	// Close releases all files, the engine's too. Snapshots must be closed before.
	Close() error
}

// Held says how a list of holds is (collector/internal/hold).
type Held struct {
	Generation uint64   // the number of its last change; 0: there never was one
	Hash       [32]byte // of the list; zero: not known
}

// Batch is what one Append takes, all or nothing.
type Batch struct {
	// ID numbers batches from 1, without holes. Append does nothing for an ID that the
	// store has already.
	ID uint64
	// At is when the batch was made, by the writer's clock; zero where that does not matter.
	At time.Time
	// Day is that of receipt: the batch goes to the day's last part.
	Day Day
	// Events may be nil when only the rest is to be kept.
	Events *Table
	// LSN and Open are the writer's place in the journal: every record up to LSN is in
	// this or an earlier batch, except those in Open (ascending), whose events are not
	// complete yet.
	LSN  uint64
	Open []uint64
	// Hosts and Senders replace the entries with the same name or key, or add new ones;
	// all other entries stay.
	Hosts   []Host
	Senders []KV
	// Ledger is what the batch's records say of their hosts' completeness.
	Ledger []HostLedger
	// Forget names hosts to be deleted from the list; their events stay. They are
	// deleted before Hosts is written.
	Forget []string
	// Import is nil for what came from senders. Only an Importer takes others.
	Import *Import
}

// State is what a writer needs to go on after a restart, as the last batch left it.
type State struct {
	ID      uint64
	LSN     uint64
	Open    []uint64
	Hosts   []Host // by name
	Senders []KV   // by key
	Ledger  []KV   // of each host, by name, what ledger.Restore reads
}

// HostLedger is what a batch has of one host for the ledger. Tracker replaces what is followed
// of the host, where it is not nil, Rows are added to those that are stored; Append changes neither.
type HostLedger struct {
	Host    string
	Tracker []byte
	Rows    []*ledger.Row
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
	// Lost is how many records the host has said that it lost (op=lost-records), ever.
	Lost uint64
	// Live says that an event of the host was once received within LiveWithin of its time:
	// the host is not known from old logs alone. LagMs is then how late its newest event was
	// received, in milliseconds.
	Live  bool
	LagMs int64
	// Mismatched is how many of its records, ever, claimed by their node= to be another host's.
	Mismatched uint64
	// Verified is when it last sent under a name that it had proved; zero: never. Nobody
	// else may use such a name.
	Verified time.Time
	// Also is another host that these records count as, too: an administrator said so of
	// a sender that did not name itself. "" means none.
	Also string
}

// LiveWithin is how late an event may be received that shows that its host is live. Before
// the first such event, late events are taken for those of an old log; from then on they say
// that the host lags.
const LiveWithin = time.Hour

// SetLag notes that the host's newest event was received so many milliseconds late.
func (h *Host) SetLag(ms int64) {
	ms = max(0, ms) // a clock ahead is no lag
	if h.Live || ms <= LiveWithin.Milliseconds() {
		h.Live, h.LagMs = true, ms
	}
}

// MaxAddrs is how many addresses of a host are kept.
const MaxAddrs = 4
