package roster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/several"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// asked is who a question is asked of.
type asked struct {
	seen   map[string]uint64 // the last batch of each other collector that the own answer has
	others []several.Member
	absent []store.Member    // those that do not run
	at     map[string]string // where each store's collector is asked; why not was said of those that run and are not in here
}

// whole is this collector, with what of the others it finds in the cluster.
type whole struct {
	api.Source
	seen map[string]uint64
}

func (w *whole) query(q *query.Query) *query.Query {
	own := *q
	own.Others = w.seen
	return &own
}

// ScanText implements query.TextSource.
func (w *whole) ScanText(ctx context.Context, q *query.Query, fn func(query.Texts) error) error {
	return w.Source.ScanText(ctx, w.query(q), fn)
}

// Tally implements query.Source.
func (w *whole) Tally(ctx context.Context, q *query.Query, fields []query.Field, rest func(*event.Event) error) (*query.Tally, error) {
	return w.Source.Tally(ctx, w.query(q), fields, rest)
}

// Follow implements query.Source.
func (w *whole) Follow(ctx context.Context, q *query.Query, fn func(*event.Event) error, idle func(uint64) error) error {
	return w.Source.Follow(ctx, w.query(q), fn, idle)
}

// part is what this collector itself has received, or what of others it finds in the cluster: events of a host that moved may be in both.
type part struct {
	api.Source
	seen   map[string]uint64
	theirs bool
}

// ScanText implements query.TextSource.
func (p *part) ScanText(ctx context.Context, q *query.Query, fn func(query.Texts) error) error {
	own := *q
	own.Others, own.Theirs, own.Own = p.seen, p.theirs, !p.theirs
	return p.Source.ScanText(ctx, &own, fn)
}

// Coverage implements api.Source.
func (p *part) Coverage(ctx context.Context, req *fleet.CoverageRequest, fn func(*fleet.Coverage) error) error {
	if p.theirs {
		return nil
	}
	return p.Source.Coverage(ctx, req, fn)
}

// About implements query.Source: parts of one collector are asked apart.
func (p *part) About(context.Context) (query.About, error) { return query.About{Indexed: true}, nil }

// Close implements io.Closer.
func (p *part) Close() error { return nil }

// Close implements io.Closer.
func (w *whole) Close() error { return nil }

// About implements query.Source.
func (w *whole) About(context.Context) (query.About, error) {
	return query.About{Indexed: true}, nil
}

// tail is another collector, of which only what is wanted that is behind a batch.
type tail struct {
	Client
	r     *Roster
	at    string
	after uint64
}

func (t *tail) query(q *query.Query) *query.Query {
	own := *q
	own.Own, own.AfterBatch, own.Origin = true, t.after, true // by who sent it a record of a host that moved is told from others
	return &own
}

// done drops a connection over which a call has failed: the next question makes another one.
func (t *tail) done(ctx context.Context, err error) error {
	if err != nil && ctx.Err() == nil && !errors.Is(err, query.ErrStop) && !errors.Is(err, query.ErrMemory) {
		t.r.drop(t.at, t.Client)
	}
	return err
}

// ScanText implements query.TextSource.
func (t *tail) ScanText(ctx context.Context, q *query.Query, fn func(query.Texts) error) error {
	return t.done(ctx, t.Client.ScanText(ctx, t.query(q), fn))
}

// Tally implements query.Source.
func (t *tail) Tally(ctx context.Context, q *query.Query, fields []query.Field, rest func(*event.Event) error) (*query.Tally, error) {
	sum, err := t.Client.Tally(ctx, t.query(q), fields, rest)
	return sum, t.done(ctx, err)
}

// Follow implements query.Source.
func (t *tail) Follow(ctx context.Context, q *query.Query, fn func(*event.Event) error, idle func(uint64) error) error {
	return t.done(ctx, t.Client.Follow(ctx, t.query(q), fn, idle))
}

// Coverage implements api.Source.
func (t *tail) Coverage(ctx context.Context, req *fleet.CoverageRequest, fn func(*fleet.Coverage) error) error {
	req.Own = true
	return t.done(ctx, t.Client.Coverage(ctx, req, fn))
}

// Status says how the collector fares.
func (t *tail) Status(ctx context.Context) (*fleet.StatusResponse, error) {
	s, err := t.Client.Status(ctx)
	return s, t.done(ctx, err)
}

// Close implements io.Closer: the connection is used again.
func (t *tail) Close() error { return nil }

// ask finds out whom to ask, and notes what the answer lacks of those that cannot be.
func (r *Roster) ask(ctx context.Context) (*asked, error) {
	members, err := r.cfg.Roster.Members(ctx)
	if err != nil {
		return nil, err
	}
	// What one has stored before it ended must be in the answer, for it is not asked.
	seen, err := r.cfg.Roster.Seen(ctx, r.noticed(members))
	if err != nil {
		return nil, err
	}
	a := &asked{seen: seen, at: map[string]string{}}
	called := names(members)
	there := r.stillThere(ctx, members)
	for i := range members {
		m := members[i]
		state := r.state(&m)
		if m.Store == r.cfg.Self.Store {
			continue
		}
		if there[m.Store] {
			state = "running"
		}
		if state == "running" {
			a.at[m.Store] = m.Address
		}
		if state != "running" || m.Bad != nil {
			a.absent = append(a.absent, m)
		}
		if state == "stopped" || state == "lost" {
			continue
		}
		why := ""
		switch {
		case m.Bad != nil:
			why = m.Bad.Error()
		case state == "silent":
			why = fmt.Sprintf("it was not heard of since %s", time.UnixMilli(m.At).UTC().Format(time.RFC3339))
		case m.Address == "":
			why = "it has no gRPC port at which it could be asked (grpc, cluster_address)"
		case r.cfg.Dial == nil:
			why = "this collector has no certificate by which it could ask (tls_cert)"
		}
		if why != "" {
			api.Lacks(ctx, api.Lack{Collector: called[m.Store], Tail: true, Err: errors.New(why)})
			continue
		}
		a.others = append(a.others, several.Member{Name: called[m.Store], Open: func(ctx context.Context) (several.Collector, error) {
			return r.open(ctx, &m, seen[m.Store])
		}})
	}
	return a, nil
}

// noticed returns when it was noticed last that a collector does not run.
func (r *Roster) noticed(members []store.Member) (last time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range members {
		m := &members[i]
		if r.state(m) == "running" {
			delete(r.ended, m.Store)
			continue
		}
		if r.ended[m.Store].at != m.At {
			r.ended[m.Store] = ended{m.At, time.Now()}
		}
		if t := r.ended[m.Store].noticed; t.After(last) {
			last = t
		}
	}
	return last
}

// ended is a collector that does not run: since when by its own clock, and by ours.
type ended struct {
	at      int64
	noticed time.Time
}

// open connects to a collector, or uses the connection that there is.
func (r *Roster) open(ctx context.Context, m *store.Member, after uint64) (several.Collector, error) {
	r.mu.Lock()
	c := r.clients[m.Address]
	r.mu.Unlock()
	if c == nil {
		made, err := r.cfg.Dial(ctx, m.Address)
		if err != nil {
			return nil, err
		}
		r.mu.Lock()
		if c = r.clients[m.Address]; c == nil {
			r.clients[m.Address], c, made = made, made, nil
		}
		r.mu.Unlock()
		if made != nil {
			if err := made.Close(); err != nil {
				return nil, err
			}
		}
	}
	t := &tail{Client: c, r: r, at: m.Address, after: after}
	is, err := t.Status(ctx)
	if err == nil && is.GetStoreId() != m.Store {
		err = fmt.Errorf("another collector answers at %s: cluster_address says where others reach it", m.Address)
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

const (
	// tryWait is how long a collector may answer nothing that is said to have stopped, or to be gone, and triedFor how long it is not tried again then.
	tryWait  = time.Second
	triedFor = 10 * time.Second
)

// tried is whether a collector answered that has written something, and when that was tried.
type tried struct {
	wrote int64 // Member.At
	at    time.Time
	there bool
}

// stillThere returns which collectors answer that have said to have stopped, or of which somebody said that they are gone: one that began again while the
// cluster took nothing could not write that it runs.
func (r *Roster) stillThere(ctx context.Context, members []store.Member) map[string]bool {
	there := map[string]bool{}
	var mu sync.Mutex // guards there
	var trying sync.WaitGroup
	for i := range members {
		m := &members[i]
		if state := r.state(m); state != "stopped" && state != "lost" || m.Address == "" || r.cfg.Dial == nil {
			continue
		}
		trying.Go(func() {
			r.mu.Lock()
			t := r.tried[m.Store]
			r.mu.Unlock()
			if t.wrote != m.At || time.Since(t.at) > triedFor {
				t = tried{m.At, time.Now(), r.answers(ctx, m, tryWait)}
				if ctx.Err() == nil {
					r.mu.Lock()
					r.tried[m.Store] = t
					r.mu.Unlock()
				}
			}
			mu.Lock()
			there[m.Store] = t.there
			mu.Unlock()
		})
	}
	trying.Wait()
	return there
}

// answers reports whether a collector answers within a time at the address that it wrote.
func (r *Roster) answers(ctx context.Context, m *store.Member, wait time.Duration) bool {
	if m.Address == "" || r.cfg.Dial == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	_, err := r.open(ctx, m, 0)
	return err == nil
}

// drop closes a connection that is not used any more.
func (r *Roster) drop(address string, c Client) {
	r.mu.Lock()
	is := r.clients[address] == c
	if is {
		delete(r.clients, address)
	}
	r.mu.Unlock()
	if is {
		_ = c.Close() // it has failed already
	}
}

// together opens the parts of this collector and the others as one source. The caller calls lacking behind the answer, and closes the source.
func (r *Roster) together(ctx context.Context, a *asked, own ...several.Collector) (*several.Source, error) {
	var list []several.Member
	for _, c := range own {
		list = append(list, several.Member{Name: r.cfg.Self.Name, Open: func(context.Context) (several.Collector, error) { return c, nil }})
	}
	s, err := several.Open(ctx, append(list, a.others...), r.wait)
	if err == nil {
		s.Apart()
	}
	return s, err
}

// parts are those of this collector.
func (r *Roster) parts(a *asked) []several.Collector {
	return []several.Collector{&part{r.cfg.Own, a.seen, false}, &part{r.cfg.Own, a.seen, true}}
}

// lacking notes what the answer of a source lacks; own is what this collector itself has failed with, which is no lack but an error.
func (r *Roster) lacking(ctx context.Context, s *several.Source) error {
	for _, f := range s.Missing() {
		if f.Collector == r.cfg.Self.Name {
			return f.Err
		}
		f.Tail = true
		api.Lacks(ctx, f)
	}
	return nil
}

// unasked notes that an answer has of others only what they have stored.
func unasked(ctx context.Context, a *asked, why string) {
	for _, m := range a.others {
		api.Lacks(ctx, api.Lack{Collector: m.Name, Tail: true, Err: errors.New(why)})
	}
}

// pages are answers that go by batches or places in the answer.
func pages(q *query.Query) bool { return q.Batches || q.After != nil || q.AfterBatch != 0 }

const byBatches = "answers that are given in pages have of other collectors only what these have stored"

// ScanText implements query.TextSource.
func (r *Roster) ScanText(ctx context.Context, q *query.Query, fn func(query.Texts) error) error {
	if q.Own {
		return r.cfg.Own.ScanText(ctx, q, fn)
	}
	a, err := r.ask(ctx)
	switch {
	case err != nil:
		return err
	case len(a.seen) == 0 && len(a.others) == 0, pages(q):
		unasked(ctx, a, byBatches)
		own := whole{r.cfg.Own, a.seen}
		return own.ScanText(ctx, q, fn)
	}
	s, err := r.together(ctx, a, r.parts(a)...)
	if err != nil {
		return err
	}
	err = s.ScanText(ctx, q, fn)
	return errors.Join(err, r.lacking(ctx, s), s.Close())
}

// Scan implements query.Source.
func (r *Roster) Scan(ctx context.Context, q *query.Query, fn func(*event.Event) error) error {
	if q.Own {
		return r.cfg.Own.Scan(ctx, q, fn)
	}
	a, err := r.ask(ctx)
	switch {
	case err != nil:
		return err
	case len(a.seen) == 0 && len(a.others) == 0, pages(q):
		unasked(ctx, a, byBatches)
		own := whole{r.cfg.Own, a.seen}
		return own.Scan(ctx, own.query(q), fn)
	}
	s, err := r.together(ctx, a, r.parts(a)...)
	if err != nil {
		return err
	}
	err = s.Scan(ctx, q, fn)
	return errors.Join(err, r.lacking(ctx, s), s.Close())
}

// Follow implements query.Source. What comes of a collector that cannot be asked is said at once, and that is asked again.
func (r *Roster) Follow(ctx context.Context, q *query.Query, fn func(*event.Event) error, idle func(lost uint64) error) error {
	if q.Own {
		return r.cfg.Own.Follow(ctx, q, fn, idle)
	}
	a, err := r.ask(ctx)
	if err != nil {
		return err
	}
	if !pages(q) {
		var done func()
		ctx, fn, idle, done = r.newcomers(ctx, a, fn, idle)
		defer done()
	}
	if len(a.others) == 0 || pages(q) {
		unasked(ctx, a, byBatches)
		own := whole{r.cfg.Own, a.seen}
		return own.Follow(ctx, q, fn, idle)
	}
	s, err := r.together(ctx, a, &whole{r.cfg.Own, a.seen})
	if err != nil {
		return err
	}
	s.SayAtOnce(func(f several.Failure) {
		if f.Collector != r.cfg.Self.Name {
			api.Lacks(ctx, f)
		}
	})
	err = s.Follow(ctx, q, fn, idle)
	return errors.Join(err, s.Close())
}

// restBytes is about what an event takes that another collector cannot count, beside its text.
const restBytes = 500

// Tally implements query.Source: what each collector is asked about is its own, so the counts are added up.
func (r *Roster) Tally(ctx context.Context, q *query.Query, fields []query.Field, rest func(*event.Event) error) (*query.Tally, error) {
	if q.Own {
		return r.cfg.Own.Tally(ctx, q, fields, rest)
	}
	a, err := r.ask(ctx)
	if err != nil {
		return nil, err
	}
	own := whole{r.cfg.Own, a.seen}
	if len(a.others) == 0 || pages(q) {
		unasked(ctx, a, byBatches)
		return own.Tally(ctx, q, fields, rest)
	}
	type answer struct {
		sum  *query.Tally
		rest []*event.Event
		err  error
	}
	parts := make([]answer, len(a.others))
	var asking sync.WaitGroup
	within, cancel := context.WithCancel(ctx)
	defer asking.Wait()
	defer cancel()
	for i := range a.others {
		asking.Go(func() {
			p := &parts[i]
			opening, done := context.WithTimeout(within, r.wait)
			defer done()
			c, err := a.others[i].Open(opening)
			if err != nil {
				p.err = err
				return
			}
			// All or nothing: what a collector that fails has counted is not known to be whole.
			p.err = several.Watch(within, c, r.wait, func(ctx context.Context) (err error) {
				p.sum, err = c.Tally(ctx, q, fields, func(ev *event.Event) error {
					if !q.Memory.Take(restBytes + ev.Size()) {
						return query.ErrMemory
					}
					p.rest = append(p.rest, ev)
					return nil
				})
				return err
			})
		})
	}
	sum, err := own.Tally(ctx, q, fields, rest)
	if err != nil {
		return sum, err
	}
	asking.Wait()
	for i := range parts {
		p := &parts[i]
		if p.err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if errors.Is(p.err, query.ErrMemory) {
				return nil, query.ErrMemory
			}
			api.Lacks(ctx, api.Lack{Collector: a.others[i].Name, Tail: true, Err: p.err})
			continue
		}
		sum.Merge(p.sum)
		for _, ev := range p.rest {
			if err := rest(ev); err != nil {
				return nil, err
			}
		}
	}
	if q.Limit > 0 {
		sum.Events = min(sum.Events, int64(q.Limit))
	}
	return sum, sum.Err()
}

// About implements query.Source.
func (r *Roster) About(ctx context.Context) (query.About, error) { return r.cfg.Own.About(ctx) }

var _ interface {
	api.Source
	api.Cluster
} = (*Roster)(nil)
