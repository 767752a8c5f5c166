package head

import (
	"net/netip"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
)

// Defaults of Options.
const (
	DefaultOpenBytesHost = 16 << 20
	DefaultOpenBytes     = 64 << 20
	// DefaultOpenEventsHost is far beyond what a host's CPUs can have open at once.
	DefaultOpenEventsHost = 16384
	DefaultOpenEvents     = 131072
	// DefaultOpenAge is far beyond what an event takes: the kernel makes its records
	// within milliseconds, and a sender that was interrupted begins where it was.
	DefaultOpenAge    = time.Minute
	DefaultSearchWait = 5 * time.Second
)

// Options of a head. Journal, Place and Events are needed.
type Options struct {
	Journal *journal.Journal // open, not started; the head starts it
	Place   store.Place      // takes the tables
	Events  store.Events     // that Place stores
	Logger  hclog.Logger
	Now     func() time.Time

	// TableBytes is the memory at which a table is handed to the store; 32 MiB
	// when 0, which is about 25 MB of records. Two tables may exist at a time.
	TableBytes int64
	// OnSenders, if not nil, hears what the journal has learned of senders, with each batch that is cut, by its number.
	OnSenders func(batch uint64, changed []store.KV)
	// MaxAge is how long an event stays in memory at most; 5 minutes when 0. It is
	// safe in the journal and searched all the same: this bounds the replay.
	MaxAge time.Duration
	// EventTimeout is end_of_event_timeout; 2 s when 0.
	EventTimeout time.Duration
	// MaxHosts bounds the hosts told apart by node=, and apart from them those that
	// go by their sender's address or name; 20,000 when 0. Records of further ones
	// are stored together under the host "", and found by their node all the same.
	MaxHosts int
	// NewNames bounds the names that one address adds a day by node=;
	// DefaultNewNames when 0, none when negative. Records of further ones are kept
	// like those of hosts beyond MaxHosts.
	NewNames int
	// MaxOpenBytes bounds the memory of open events, of what one sender sends for
	// a host and of all together; DefaultOpenBytesHost and DefaultOpenBytes when 0.
	MaxOpenBytesHost, MaxOpenBytes int
	// MaxOpenEvents bounds their number likewise; DefaultOpenEventsHost and
	// DefaultOpenEvents when 0.
	MaxOpenEventsHost, MaxOpenEvents int
	// MaxOpenAge is how long after its first record an event may get others;
	// DefaultOpenAge when 0. A restart begins it anew for what is replayed: senders
	// may have waited for it.
	MaxOpenAge time.Duration
	// RetryEvery is how long to wait when the store does not take a table; 1 s when 0.
	RetryEvery time.Duration
	// SearchWait bounds how long a search waits for what was acknowledged before it
	// began: only a store that takes nothing makes it that long. DefaultSearchWait
	// when 0.
	SearchWait time.Duration

	// MayName says whether senders in clear text may use a name from an address; nil: any
	// that is not verified. SetMayName replaces it.
	MayName func(name string, addr netip.Addr) bool

	// OwnName is the collector's own name, "" for none, under which its records of itself are stored.
	// Without MayName, only senders in clear text whose address OwnAddr has may use it: others could
	// forge what the collector says of who asked what.
	OwnName string
	OwnAddr func(addr netip.Addr) bool

	// OnEvent, when set, sees each event as it is complete, in the order in which
	// they are; it must not block. What is replayed at start is not shown again
	// to it: it may have seen it.
	OnEvent func(host string, ev *event.Event)
	// Awaited, when set, says whether somebody waits for what OnEvent sees; else it may be a
	// second late.
	Awaited func() bool
	// OnNotice, when set, hears what is odd about the names that peers give. It must
	// not block.
	OnNotice func(Notice)
	// OnStore, when set, hears the outcome of each attempt to store a table.
	OnStore func(err error)
	// Stop ends an Open that is not done once it is closed, with ErrClosed: it replays for as long
	// as the store takes nothing. nil: nothing does.
	Stop <-chan struct{}
}

func (o *Options) defaults() {
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.TableBytes <= 0 {
		o.TableBytes = 32 << 20
	}
	if o.MaxAge <= 0 {
		o.MaxAge = 5 * time.Minute
	}
	if o.EventTimeout <= 0 {
		o.EventTimeout = 2 * time.Second
	}
	if o.MaxHosts <= 0 {
		o.MaxHosts = 20000
	}
	if o.NewNames == 0 {
		o.NewNames = DefaultNewNames
	}
	if o.MaxOpenBytesHost <= 0 {
		o.MaxOpenBytesHost = DefaultOpenBytesHost
	}
	if o.MaxOpenBytes <= 0 {
		o.MaxOpenBytes = DefaultOpenBytes
	}
	if o.MaxOpenEventsHost <= 0 {
		o.MaxOpenEventsHost = DefaultOpenEventsHost
	}
	if o.MaxOpenEvents <= 0 {
		o.MaxOpenEvents = DefaultOpenEvents
	}
	if o.MaxOpenAge <= 0 {
		o.MaxOpenAge = DefaultOpenAge
	}
	if o.RetryEvery <= 0 {
		o.RetryEvery = time.Second
	}
	if o.SearchWait <= 0 {
		o.SearchWait = DefaultSearchWait
	}
}

// Stats are counters and present sizes.
type Stats struct {
	Records, Events     uint64 // since start, replay included
	Replayed            uint64 // records
	Unparsable          uint64
	Early               [NumEarly]uint64   // events ended early, by what asked for it
	FarFuture           uint64             // events with a time more than a day beyond their receipt
	Mixed               uint64             // records of hosts beyond MaxHosts and NewNames
	NamesRefused        uint64             // how often a name was not added, for its sender had added too many
	Mismatched          uint64             // records that claimed to be another host's, since the start
	SealAlarms          [NumSealOps]uint64 // records of hosts about collectors' logs, since the start, by SealOp
	AddressChanges      uint64             // how often a name came from another address than before
	OpenEvents          int
	OpenBytes           int
	Tables              int // in memory
	TableEvents         int
	TableBytes          int64 // memory of all tables
	Hosts               int
	StoredID, StoredLSN uint64
	StoreFailures       uint64
	SearchesBehind      uint64 // answered with ErrBehind
	StoreError          error  // of the last attempt, nil when it worked
	// Storing is for how long the storing of a table that is under way has not returned; 0: none is.
	Storing time.Duration
}
