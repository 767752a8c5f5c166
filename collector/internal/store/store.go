package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

var (
	// ErrStop is returned by a Scan's fn to end it early; Scan then returns nil.
	ErrStop = query.ErrStop
	// ErrGap is returned by Append for a batch that is not the next one.
	ErrGap = errors.New("a batch before this one is missing")
	// ErrInUse is returned by Open when another process has the store, and by Drop
	// for the partition that holds the store's state.
	ErrInUse = errors.New("the store is in use")
	// ErrReadOnly is returned by what changes a store that was opened to read.
	ErrReadOnly = errors.New("the store is open for reading only")
	// ErrNotOurs is returned by Open for files that are not a store's.
	ErrNotOurs = errors.New("not an auditfleet store")
	// ErrVersion is returned for a store that a newer version wrote.
	ErrVersion = errors.New("the store is from a newer version")
	// ErrDamaged is returned, with file and place, for bytes that do not add up.
	ErrDamaged = errors.New("the store is damaged")
	// ErrNoDay is returned by Drop for a partition that is not there.
	ErrNoDay = errors.New("nothing is stored of that day")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("the store is closed")
)

// Day is a day of receipt, UTC, counted from 1970-01-01.
type Day int32

// DayOf is the day of a time.
func DayOf(t time.Time) Day {
	s := t.Unix()
	d := s / 86400
	if s%86400 < 0 {
		d--
	}
	return Day(d)
}

// Time is the day's first instant.
func (d Day) Time() time.Time { return time.Unix(int64(d)*86400, 0).UTC() }

// String is the day as 2026-11-22.
func (d Day) String() string { return d.Time().Format(time.DateOnly) }

// ParseDay is the reverse of String.
func ParseDay(s string) (Day, error) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return 0, fmt.Errorf("day %q: %w", s, err)
	}
	return DayOf(t), nil
}

// Part names a partition: a day of receipt, and which of that day's it is. There is
// one a day, and one more for each Rotate.
type Part struct {
	Day Day
	N   int // from 1
}

// String is the part as 2026-11-22, its successors as 2026-11-22.2 and so on.
func (p Part) String() string {
	if p.N <= 1 {
		return p.Day.String()
	}
	return p.Day.String() + "." + strconv.Itoa(p.N)
}

// ParsePart is the reverse of String.
func ParsePart(s string) (Part, error) {
	name, num, more := strings.Cut(s, ".")
	day, err := ParseDay(name)
	p := Part{Day: day, N: 1}
	if err == nil && more {
		p.N, err = strconv.Atoi(num)
	}
	if err != nil || p.String() != s {
		return Part{}, fmt.Errorf("partition %q: want YYYY-MM-DD or YYYY-MM-DD.N", s)
	}
	return p, nil
}

// Compare orders by day, then by number.
func (p Part) Compare(q Part) int {
	return cmp.Or(cmp.Compare(p.Day, q.Day), cmp.Compare(p.N, q.N))
}

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

// KV is a small value a writer keeps with its batches. A nil value deletes the key.
type KV struct{ Key, Value []byte }

// Batch is what one Append takes, all or nothing.
type Batch struct {
	// ID numbers batches from 1, without holes. A batch whose ID the store has is
	// there already, and Append does nothing.
	ID uint64
	// Day is the partition's: of several of that day, the last.
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

// Stats are a store's sizes.
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
	Sealed                          bool
}

// Store keeps events. Append is for one goroutine, everything else for many.
type Store interface {
	// Append stores a batch durably, exactly once by its ID. It may use b.Events
	// until it returns, together with searches; nothing may be added meanwhile.
	Append(ctx context.Context, b *Batch) error
	// State is that of the last batch stored.
	State(ctx context.Context) (*State, error)
	// Snapshot is the store as it is now, for one query. It must be closed.
	Snapshot(ctx context.Context) (Snapshot, error)
	// Hosts are those known with the last batch, by name.
	Hosts(ctx context.Context) ([]Host, error)
	Stats(ctx context.Context) (Stats, error)
	// Drop forgets a whole partition, not the one being written. Snapshots that have
	// it keep it.
	Drop(ctx context.Context, part Part) error
	// Rotate ends the partition being written: what comes for its day goes to
	// another one. It does nothing when there are no events in it.
	Rotate(ctx context.Context) error
	Close() error
}

// Snapshot answers queries from the batches there were when it was made.
type Snapshot interface {
	// LastID is the last batch's ID.
	LastID() uint64
	// Scan gives fn the matching events in order of time, node, serial and place
	// in the event; of events equal in all that, the earlier stored goes first.
	// For a query with Reverse all of that is turned round, at no more cost.
	// fn runs in the caller's goroutine. The event is fn's to keep; its bytes are
	// part of a block of up to some hundred KiB, so to keep few is to copy them.
	// An error of fn ends the scan: ErrStop without error, others are returned.
	// Damage does not end it: what can be read is given, then an error that wraps
	// ErrDamaged is returned. Each event says its batch; of those up to q.AfterBatch
	// there is none.
	Scan(ctx context.Context, q *query.Query, fn func(*event.Event) error) error
	// Tally counts how many of the query's events have each value of some fields,
	// those of an index included, without looking at them where it can. The query
	// may ask for times and nodes only. An event is counted or given to rest, never
	// both, in no order; rest's calls do not overlap, and the event is valid until
	// rest returns. Odd events are always given. On any error what was counted and
	// given says nothing.
	Tally(ctx context.Context, q *query.Query, fields []query.Field, rest func(*event.Event) error) (*query.Tally, error)
	Close() error
}

// Scan makes a snapshot of s and scans it.
func Scan(ctx context.Context, s Store, q *query.Query, fn func(*event.Event) error) (err error) {
	snap, err := s.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	return snap.Scan(ctx, q, fn)
}
