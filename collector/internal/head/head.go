package head

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/record"
)

var (
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("the head is closed")
	// ErrBehind is returned by Scan, after all that it found, when what was
	// acknowledged before it began was not all taken in within SearchWait.
	ErrBehind = errors.New("the answer may lack records that were acknowledged shortly before")
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

	// OnEvent, when set, sees each event as it is complete, in the order in which
	// they are; it must not block. What is replayed at start is not shown again
	// to it: it may have seen it.
	OnEvent func(host string, ev *event.Event)
	// OnNotice, when set, hears what is odd about the names that peers give. It must
	// not block.
	OnNotice func(Notice)
	// OnStore, when set, hears the outcome of each attempt to store a table.
	OnStore func(err error)
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
	Early               [NumEarly]uint64 // events ended early, by what asked for it
	FarFuture           uint64           // events with a time more than a day beyond their receipt
	Mixed               uint64           // records of hosts beyond MaxHosts and NewNames
	NamesRefused        uint64           // how often a name was not added, for its sender had added too many
	AddressChanges      uint64           // how often a name came from another address than before
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
}

// generation is a table with the ID it will be stored under.
type generation struct {
	id    uint64
	table *store.Table
}

// Head is safe for use by several goroutines.
type Head struct {
	opts  Options
	j     *journal.Journal
	place store.Place
	st    store.Events

	mu      sync.RWMutex // everything below, but for what only run touches
	active  generation
	waiting []generation // handed to flush, oldest first
	hosts   map[string]*host
	stats   Stats
	// followers are told of each event as it is complete.
	followers map[*follower]struct{}
	taken     uint64        // every record up to this LSN is in a table or an open event
	moved     chan struct{} // closed when taken moves; nil while nobody waits

	// Only run (before it starts: Open) touches these.
	lsn         uint64 // last processed
	stored      uint64 // LSN in the store's state at start
	open        []uint64
	day         store.Day
	firstAt     time.Time // when the active table got its first event
	dirty       []*host
	openStreams map[*stream]struct{}
	openPeak    int // the most of them since the map was made
	openBytes   int
	opened      int // events that are open
	said        earlySaid
	last        *host
	replaying   bool

	mixed *host // all hosts beyond MaxHosts
	// Hosts that an administrator changed, guarded by mu: whether there is something
	// to be stored for it, and those to be forgotten.
	changed   bool
	forgotten []string
	// Hosts that records name, and those that go by their senders' address or name.
	named, unnamed int
	newcomers      newcomers
	noticed        notices
	// Logged: there are more hosts than MaxHosts, and names that are too long.
	saidFull, saidLong bool

	rec    record.Record
	events event.Pool

	flushQ  chan *store.Batch
	asked   chan chan error
	stop    context.CancelFunc
	ctx     context.Context
	wg      sync.WaitGroup
	damage  []error // read-only: what of the journal is missing
	ranEnd  chan struct{}
	closing chan struct{}
	once    sync.Once
	err     error
}

// Open takes up where the store and the journal are, replays and starts.
func Open(o Options) (_ *Head, err error) {
	o.defaults()
	if o.Journal == nil || o.Place == nil || o.Events == nil {
		return nil, errors.New("open the head: Options need Journal, Place and Events")
	}
	h := newHead(o)
	state, err := h.load()
	if err != nil {
		return nil, err
	}
	h.wg.Add(1)
	go h.flush()
	h.replaying = true
	senders := make([]journal.KV, len(state.Senders))
	for i, kv := range state.Senders {
		senders[i] = journal.KV{Key: kv.Key, Value: kv.Value}
	}
	err = h.j.Start(journal.Resume{Place: journal.Place{LSN: state.LSN, Open: state.Open}, Senders: senders}, func(b *journal.Batch) error {
		return h.take(b)
	})
	h.replaying = false
	if err != nil {
		close(h.closing)
		h.stop()
		close(h.flushQ)
		h.wg.Wait()
		return nil, fmt.Errorf("open the head: %w", err)
	}
	h.open = nil
	h.wg.Add(1)
	go h.run()
	return h, nil
}

func newHead(o Options) *Head {
	h := &Head{
		opts: o, j: o.Journal, place: o.Place, st: o.Events,
		hosts:       map[string]*host{},
		newcomers:   newcomers{most: o.NewNames, by: map[netip.Addr]*allowance{}},
		openStreams: map[*stream]struct{}{},
		flushQ:      make(chan *store.Batch),
		asked:       make(chan chan error, 8),
		ranEnd:      make(chan struct{}),
		closing:     make(chan struct{}),
	}
	h.ctx, h.stop = context.WithCancel(context.Background())
	return h
}

// load reads the store's state.
func (h *Head) load() (*store.State, error) {
	state, err := h.place.State(h.ctx)
	if err != nil {
		return nil, fmt.Errorf("read the store's state: %w", err)
	}
	h.lsn, h.stored, h.open = state.LSN, state.LSN, state.Open
	h.taken = state.LSN
	h.active = generation{state.ID + 1, store.NewTable()}
	h.stats.StoredID, h.stats.StoredLSN = state.ID, state.LSN
	for i := range state.Hosts {
		h.know(state.Hosts[i])
	}
	return state, nil
}

// run takes committed batches until the journal is closed.
func (h *Head) run() {
	defer h.wg.Done()
	defer close(h.ranEnd)
	defer close(h.flushQ)
	tick := h.opts.Now()
	for {
		ctx, cancel := context.WithTimeout(h.ctx, time.Second)
		batches, err := h.j.Take(ctx)
		cancel()
		for _, b := range batches {
			if err := h.take(b); err != nil {
				return
			}
		}
		clear(batches)
		if errors.Is(err, journal.ErrClosed) {
			if err := h.cut(); err != nil {
				h.opts.Logger.Warn("the last events stay in the journal", "error", err)
			}
			return
		}
		if now := h.opts.Now(); now.Sub(tick) >= time.Second || now.Before(tick) || err != nil {
			tick = now
			h.tick(now)
			if err := h.cutOld(now); err != nil {
				return
			}
		}
		select {
		case reply := <-h.asked:
			h.answer(reply)
		default:
		}
		if h.ctx.Err() != nil {
			return
		}
	}
}

// answer takes what was acknowledged before Flush, cuts, and waits for flush.
func (h *Head) answer(reply chan error) {
	h.j.Poke()
	batches, err := h.j.Take(h.ctx)
	if errors.Is(err, journal.ErrClosed) {
		err = nil // run finds out for itself
	}
	for _, b := range batches {
		err = errors.Join(err, h.take(b))
	}
	if err == nil {
		err = h.cut()
	}
	if err == nil {
		select {
		case h.flushQ <- nil: // taken only when the batch before is stored
		case <-h.ctx.Done():
			err = ErrClosed
		}
	}
	reply <- err
}

// Flush has the store take all complete events of what was acknowledged so far,
// and waits for it.
func (h *Head) Flush(ctx context.Context) error {
	reply := make(chan error, 1)
	select {
	case h.asked <- reply:
	case <-ctx.Done():
		return ctx.Err()
	}
	h.j.Poke()
	select {
	case err := <-reply:
		return err
	case <-h.ranEnd:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// cutOld cuts the table when its oldest event is old enough, or when only
// counters and the place in the journal moved.
func (h *Head) cutOld(now time.Time) error {
	age := now.Sub(h.firstAt)
	if h.firstAt.IsZero() || age >= 0 && age < h.opts.MaxAge {
		return nil
	}
	return h.cut()
}

// cut hands the table to flush and begins another.
func (h *Head) cut() error {
	h.mu.Lock()
	changed := h.changed
	h.changed = false
	h.mu.Unlock()
	switch {
	case !h.firstAt.IsZero():
	case changed:
		h.day = store.DayOf(h.opts.Now())
	default:
		return nil
	}
	b := &store.Batch{
		ID: h.active.id, Day: h.day, Events: h.active.table, LSN: h.lsn,
		Open: slices.Clone(h.open), // during replay: those not met again yet
	}
	for st := range h.openStreams {
		b.Open = st.asm.OpenTags(b.Open)
	}
	slices.Sort(b.Open)
	b.Open = slices.Compact(b.Open)
	h.mu.Lock()
	for _, x := range h.dirty {
		x.dirty = false
		b.Hosts = append(b.Hosts, x.info())
	}
	h.dirty = h.dirty[:0]
	b.Forget, h.forgotten = h.forgotten, nil
	h.waiting = append(h.waiting, h.active)
	h.active = generation{b.ID + 1, store.NewTable()}
	h.mu.Unlock()
	for _, kv := range h.j.Senders() {
		b.Senders = append(b.Senders, store.KV{Key: kv.Key, Value: kv.Value})
	}
	h.firstAt = time.Time{}
	select {
	case h.flushQ <- b:
		return nil
	case <-h.ctx.Done():
		return ErrClosed
	}
}

// flush stores tables in order, each as often as it takes.
func (h *Head) flush() {
	defer h.wg.Done()
	for b := range h.flushQ {
		if b == nil {
			continue
		}
		for attempt := 1; ; attempt++ {
			err := h.store(b)
			if h.opts.OnStore != nil {
				h.opts.OnStore(err)
			}
			h.mu.Lock()
			h.stats.StoreError = err
			if err != nil {
				h.stats.StoreFailures++
			}
			h.mu.Unlock()
			if err == nil {
				break
			}
			if attempt == 1 || attempt%60 == 0 {
				h.opts.Logger.Error("the store does not take events; they stay in journal and memory", "error", err, "attempts", attempt)
			}
			select {
			case <-h.closing:
				h.fail(fmt.Errorf("store the last events (they are safe in the journal): %w", err))
				h.stop()
				return
			default:
			}
			select {
			case <-time.After(h.opts.RetryEvery):
			case <-h.closing: // one more attempt
			}
		}
	}
}

func (h *Head) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = errors.Join(h.err, err)
}

// store makes one table durable and trims the journal.
func (h *Head) store(b *store.Batch) error {
	// The store must not know an LSN that a power loss could take from the journal.
	if err := h.j.Sync(); err != nil {
		return err
	}
	if err := h.place.Append(context.Background(), b); err != nil {
		return fmt.Errorf("store %d events: %w", b.Events.Stats().Events, err)
	}
	h.mu.Lock()
	h.waiting = slices.DeleteFunc(h.waiting, func(g generation) bool { return g.id <= b.ID })
	h.stats.StoredID, h.stats.StoredLSN = b.ID, b.LSN
	h.mu.Unlock()
	if err := h.j.Trim(b.LSN, b.Open); err != nil {
		// The events are stored; what stays is trimmed next time.
		h.opts.Logger.Warn("trimming the journal", "error", err)
	}
	return nil
}

// Close stops the journal's intake and waits until everything committed is
// stored; when the store fails, it stays in the journal and an error says so.
// Events that are still open stay in the journal. The journal and the store are
// the caller's to close, after this.
func (h *Head) Close() error {
	h.once.Do(func() {
		if h.j != nil {
			h.j.Stop()
		}
		close(h.closing)
		h.wg.Wait()
		h.stop()
	})
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.err
}

// Stats returns the present figures.
func (h *Head) Stats() Stats {
	h.mu.RLock()
	defer h.mu.RUnlock()
	s := h.stats
	s.Hosts = len(h.hosts)
	for _, g := range append(slices.Clone(h.waiting), h.active) {
		t := g.table.Stats()
		s.Tables++
		s.TableEvents += t.Events
		s.TableBytes += t.MemBytes
	}
	return s
}
