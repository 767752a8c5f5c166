package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// Options of Open.
type Options struct {
	Address *Address
	// Store tells this place's batches from those of other collectors in the same cluster.
	Store string
	Log   hclog.Logger
	// Memory keeps what is known of the cluster; nil: only the process does.
	Memory Memory
	// ReadOnly: nothing is written into the cluster, or deleted from it. There are tables, or nothing is found.
	ReadOnly bool
}

// Engine is the events of a place in a cluster. Its methods may be called by many at once.
type Engine struct {
	opts    Options
	cluster *servers
	now     func() time.Time // the machine's clock

	appending sync.Mutex // one Append, Drop or Rotate at a time; taken before mu
	begun     begun      // the batch that was begun last; guarded by appending
	// unsure says that a row of the account may be there after all which was not written: it is read again, so that nothing of a batch is inserted behind its row.
	unsure      atomic.Bool
	holdBy      atomic.Pointer[func(context.Context, *store.PartStats, map[string]string) string] // see HoldBy
	spareLooked atomic.Bool                                                                       // see fillSpare
	filling     atomic.Bool                                                                       // likewise
	cleaned     atomic.Int64                                                                      // the day on which old rows of senders were looked for

	knowing sync.Mutex // guards kept; taken before the others
	kept    Known      // what Memory has; zero: it was not asked yet

	mu        sync.Mutex   // guards everything below
	reading   *reading     // of the account, under way; nil: none is
	account   *account     // nil: not read yet
	base      *accountBase // what the next reading reads behind; nil: all
	meanwhile [][]row      // stored while the account is read, the rows of each batch; nil: it is not
	closed    bool
	leaving   atomic.Bool          // something is deleted that another process has dropped
	open      map[uint64]bool      // snapshots, by number
	serial    uint64               // the number of the last one
	drops     []drop               // that wait for snapshots
	about     map[string]time.Time // by what says that a part is about to be dropped, when that was seen first
}

var _ store.Engine = (*Engine)(nil)

// Open connects to a cluster. One that does not answer is no error: what is asked of it then fails, and what the place hands over stays in
// its outbox. Errors: of files that the address names, and of their content.
func Open(o Options) (*Engine, error) {
	if o.Log == nil {
		o.Log = hclog.NewNullLogger()
	}
	if o.Memory == nil {
		o.Memory = &noMemory{}
	}
	c, err := connect(o.Address, o.Log, o.ReadOnly)
	if err != nil {
		return nil, err
	}
	return &Engine{opts: o, cluster: c, now: time.Now, open: map[uint64]bool{}}, nil
}

// Close closes the connections.
func (e *Engine) Close() error {
	e.mu.Lock()
	was := e.closed
	e.closed = true
	e.mu.Unlock()
	if was {
		return nil
	}
	return e.cluster.close() // which waits for readings
}

// Missing returns nothing: what the cluster lacks it says when it is asked.
func (e *Engine) Missing() []error { return nil }

// MayOpen returns how many connections to the cluster there may be beside those that there are.
func (e *Engine) MayOpen() (n int) {
	for _, x := range e.cluster.nodes {
		n += pool - x.conn.Stats().Open
	}
	return max(n, 0)
}

// fresh is how long what was read of the account is taken for what there is.
const fresh = 10 * time.Second

// begin takes appending, which the caller gives back where there is no error, and returns the account, which may be older.
func (e *Engine) begin(ctx context.Context) (*account, error) {
	for {
		age := 24 * time.Hour
		unsure := e.unsure.Swap(false) // before it is read: what another call is unsure of meanwhile is not in it
		if unsure {
			age = 0
		}
		if _, err := e.known(ctx, age); err != nil {
			if unsure {
				e.unsure.Store(true)
			}
			return nil, err
		}
		e.appending.Lock()
		// A deletion that failed while appending was waited for has forgotten the account; what is closed is said by known.
		if a, err := e.current(); err == nil && a != nil {
			return a, nil
		}
		e.appending.Unlock()
	}
}

// reading is one reading of the account, for which any number may wait.
type reading struct {
	done chan struct{} // closed at its end, when a and err are set
	a    *account
	err  error
}

// readTime is how long a reading of the account may take, whoever waits for it.
const readTime = 2 * time.Minute

// known returns the account, read from the cluster where it is not known, or older than age. It does not wait for a batch that
// is on its way to the cluster: what is stored while the account is read is added to it. A reading goes on when ctx ends.
func (e *Engine) known(ctx context.Context, age time.Duration) (*account, error) {
	for {
		e.mu.Lock()
		if a := e.account; e.closed || a != nil && time.Since(a.read) < age {
			defer e.mu.Unlock()
			if e.closed {
				return nil, store.ErrClosed
			}
			return a, nil
		}
		r, own := e.reading, false
		if r == nil {
			r, own = &reading{done: make(chan struct{})}, true
			e.reading, e.meanwhile = r, [][]row{}
			e.cluster.meets.Go(func() { e.read(r) })
		}
		e.mu.Unlock()
		select {
		case <-r.done:
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), fmt.Errorf("%w has not said in time what it has", ErrCluster))
		}
		if own || r.err != nil {
			return r.a, r.err
		}
	}
}

// read reads the account.
func (e *Engine) read(r *reading) {
	ctx, cancel := context.WithTimeout(e.cluster.ctx, readTime)
	defer cancel()
	a, err := e.readAccount(ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	defer close(r.done)
	rows := e.meanwhile
	e.reading, e.meanwhile = nil, nil
	switch {
	case e.closed:
		r.err = store.ErrClosed
	case err != nil:
		r.err = err
		if errors.Is(err, ErrOther) {
			e.account, e.base = nil, nil // nothing is found by what was known before
		}
	default:
		for _, x := range rows {
			a = a.with(e.opts.Store, x)
		}
		e.account = a.without(e.hidden())
		r.a = e.account
	}
}

// outdated has the next question read the account that an answer was of.
func (e *Engine) outdated(a *account) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.account != nil && e.account.read.Equal(a.read) {
		b := *e.account
		b.read = time.Time{}
		e.account = &b
	}
}

// current returns the account as it is; nil where it was not read yet.
func (e *Engine) current() (*account, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, store.ErrClosed
	}
	return e.account, nil
}

func (e *Engine) readAccount(ctx context.Context) (*account, error) {
	names, of, err := e.cluster.shards(ctx)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	was := e.base
	e.mu.Unlock()
	a, base, err := e.cluster.account(ctx, e.opts.Store, names, of, was)
	if err != nil {
		return nil, err
	}
	if a.holds, _, err = e.cluster.holds(ctx, of[names[0]]); err != nil {
		return nil, err
	}
	// Behind the parts: what is dropped in between is hidden, and tables that are made anew in between are noticed.
	w, err := e.present(ctx, names, of, e.delivered())
	if err != nil {
		return nil, err
	}
	base.marked = w.dropped
	e.mu.Lock()
	e.base = base
	e.mu.Unlock()
	a.now = w.now
	a.settle(e.opts.Store)
	e.hide(a, &w)
	return a, nil
}

// statsTime is how long who asks for sizes waits for the cluster: they are shown beside much else.
const statsTime = 5 * time.Second

// Stats returns the account's sums.
func (e *Engine) Stats(ctx context.Context) (store.Stats, error) {
	ctx, cancel := context.WithTimeout(ctx, statsTime)
	defer cancel()
	a, err := e.known(ctx, fresh)
	if err != nil {
		return store.Stats{}, err
	}
	return a.stats(), nil
}

// PartHosts asks every shard for the hosts of a part.
func (e *Engine) PartHosts(ctx context.Context, part store.Part, fn func(host string)) error {
	a, err := e.known(ctx, fresh)
	if err != nil {
		return err
	}
	if a.parts[part] == nil {
		return store.ErrNoDay
	}
	names, of, err := e.cluster.shards(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		var hosts []string
		err := e.cluster.shard(of[name]).ask(ctx, fmt.Sprintf("SELECT DISTINCT host FROM %s.events WHERE day = %d AND part = %d", e.cluster.address.Database, dayNumber(part.Day), part.N),
			func() { hosts = nil },
			func(scan func(...any) error) error {
				var host string
				err := scan(&host)
				hosts = append(hosts, host)
				return err
			})
		if err != nil {
			return fmt.Errorf("read the hosts of %s: %w", part, err)
		}
		for _, h := range hosts {
			fn(h)
		}
	}
	return nil
}
