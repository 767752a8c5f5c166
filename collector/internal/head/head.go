package head

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/underway"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/record"
)

var (
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("the head is closed")
	// ErrBehind is returned by Scan, after all that it found, when what was
	// acknowledged before it began was not all processed within SearchWait.
	ErrBehind = errors.New("the answer may lack records that were acknowledged shortly before")
)

// generation is a table with the ID it will be stored under.
type generation struct {
	reaches []reach // of hosts, once it is stored
	id      uint64
	table   *store.Table
	ledger  []store.HostLedger // of one that waits
}

// Head is safe for use by several goroutines. run, the goroutine that assembles, is the
// only one that changes what is being assembled, with mu held; so run itself may read that
// without mu, and everybody else needs mu to read.
type Head struct {
	opts   Options
	j      *journal.Journal // nil: read-only
	place  store.Place
	events store.Events
	damage []error // read-only: what of the journal is missing

	flushQ      chan *store.Batch        // run → flush: a table; nil asks whether the one before is stored
	flushAsked  chan chan error          // Flush → run
	importAsked chan *importing          // Import → run
	imports     map[uint64]chan struct{} // by batch: is closed once it is stored; guarded by mu
	ctx         context.Context          // ends run, and who waits for it
	stop        context.CancelFunc
	closing     chan struct{} // closed by Close: a store that fails is tried once more
	ranEnd      chan struct{} // closed when run has returned
	wg          sync.WaitGroup
	once        sync.Once
	err         error // guarded by mu: of Close

	mu sync.RWMutex
	// Tables, guarded by mu: the one that is filled, and those handed to flush, oldest
	// first. A table leaves waiting after its transaction, so that a search which looks
	// here before it makes its snapshot misses no event.
	active  generation
	waiting []generation
	// processed says that every record up to this LSN is in a table, in the store or in
	// an open event; advanced is closed when it moves, and nil while nobody waits. Both
	// are guarded by mu.
	processed uint64
	advanced  chan struct{}
	followers map[*follower]struct{} // guarded by mu: are told of each event as it is complete
	stats     Stats                  // guarded by mu

	// Hosts, guarded by mu. named and unnamed count those that records name and those
	// that go by their sender's address or name; each is bounded by MaxHosts. Hosts in
	// dirty have something to be stored with the next table. changed and forgotten are
	// what an administrator changed.
	hosts          map[string]*host
	lastHost       *host // that a record named
	trustedHost    *host // that trustedAddr may name
	trustedAddr    netip.Addr
	mixed          *host // "": all beyond MaxHosts; nil before the first
	proved         provedNames
	named, unnamed int
	importNames    importNames
	dirty          []*host
	entered        []*host            // whose part of the ledger has changed
	farewell       []store.HostLedger // of hosts that were forgotten since the last table: what is in no row yet
	changed        bool
	swept          time.Time // when the hosts got what the door keeps
	forgotten      []string
	reached        []reached        // in stored batches that do not count yet; see Standings
	loadedID       uint64           // the last batch that was stored at the start
	wereOpen       map[*host]uint64 // the records of hosts that were in open events when the last table was cut
	newcomers      newcomers

	turned  atomic.Uint64 // by run and flush: see Turns
	alarm   alarm         // run's
	storing underway.Call // of flush, a table

	asked chan struct{} // has an element for each question about completeness that is looked up

	door door // has a lock of its own, taken after mu

	// What is being assembled: run's, and before it starts Open's.
	lsn         uint64               // last processed
	storedLSN   uint64               // that the store knew at the start: what is not beyond it is replayed only where it is in open
	open        []uint64             // LSNs that were open then and were not met again yet; ascending
	day         store.Day            // of the active table
	firstAt     time.Time            // when the active table got its first event; zero when it has none
	openStreams map[*stream]struct{} // streams with open events
	openPeak    int                  // the most of them since the map was made
	openBytes   int                  // memory of all open events
	opened      int                  // their number
	replaying   bool
	rec         record.Record // of feed
	pool        event.Pool

	// What was said: run's.
	noticed                notices
	earlyLogged            earlyLogged
	loggedFull, loggedLong bool // that there are more hosts than MaxHosts, and names that are too long
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
	heed := h.heed(o.Stop)
	err = h.j.Start(journal.Resume{Place: journal.Place{LSN: state.LSN, Open: state.Open}, Senders: senders}, func(b *journal.Batch) error {
		if h.ctx.Err() != nil {
			return ErrClosed
		}
		return h.process(b)
	})
	heed()
	h.replaying = false
	if err == nil && h.ctx.Err() != nil {
		err = ErrClosed
	}
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

// heed ends what waits for the store once stop is closed. done has it heeded no longer.
func (h *Head) heed(stop <-chan struct{}) (done func()) {
	over := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-stop:
			h.stop()
		case <-over:
		}
	})
	return func() { close(over); wg.Wait() }
}

func newHead(o Options) *Head {
	h := &Head{
		opts: o, j: o.Journal, place: o.Place, events: o.Events,
		hosts:       map[string]*host{},
		newcomers:   newcomers{most: o.NewNames, by: map[netip.Addr]*allowance{}},
		openStreams: map[*stream]struct{}{},
		flushQ:      make(chan *store.Batch),
		flushAsked:  make(chan chan error, 8),
		importAsked: make(chan *importing, 1),
		imports:     map[uint64]chan struct{}{},
		ranEnd:      make(chan struct{}),
		closing:     make(chan struct{}),
		asked:       make(chan struct{}, coverageAtOnce),
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
	h.lsn, h.storedLSN, h.open = state.LSN, state.LSN, state.Open
	h.processed = state.LSN
	h.active = generation{id: state.ID + 1, table: store.NewTable()}
	h.stats.StoredID, h.stats.StoredLSN = state.ID, state.LSN
	h.loadedID = state.ID
	for i := range state.Hosts {
		h.addKnown(state.Hosts[i])
	}
	h.loadLedger(state.Ledger)
	return state, nil
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

// Turns counts the turns of the goroutines that assemble and store, also those in which
// the store took nothing. Each call asks for a turn; where there is none by a later one, one of them hangs.
func (h *Head) Turns() uint64 {
	n := h.turned.Load()
	if h.j != nil {
		h.j.Poke()
	}
	return n
}

// Stats returns the present figures.
func (h *Head) Stats() Stats {
	h.mu.RLock()
	defer h.mu.RUnlock()
	s := h.stats
	s.Storing = h.storing.For(time.Now())
	s.Hosts = len(h.hosts)
	for _, g := range append(slices.Clone(h.waiting), h.active) {
		t := g.table.Stats()
		s.Tables++
		s.TableEvents += t.Events
		s.TableBytes += t.MemBytes
	}
	return s
}
