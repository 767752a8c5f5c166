package roster

import (
	"context"
	"errors"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

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

// About implements query.Source.
func (w *whole) About(context.Context) (query.About, error) {
	return query.About{Indexed: true}, nil
}

// Close implements io.Closer.
func (w *whole) Close() error { return nil }

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
