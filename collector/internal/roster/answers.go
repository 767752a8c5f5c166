package roster

import (
	"context"
	"errors"
	"sync"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/several"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

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

// events has a question about events answered: alone by what this collector finds itself, where nobody else is to be asked, or together.
func (r *Roster) events(ctx context.Context, q *query.Query, alone func(*whole) error, together func(*several.Source) error) error {
	a, err := r.ask(ctx)
	switch {
	case err != nil:
		return err
	case len(a.seen) == 0 && len(a.others) == 0, pages(q):
		unasked(ctx, a, byBatches)
		return alone(&whole{r.cfg.Own, a.seen})
	}
	s, err := r.together(ctx, a, r.parts(a)...)
	if err != nil {
		return err
	}
	err = together(s)
	return errors.Join(err, r.lacking(ctx, s), s.Close())
}

// ScanText implements query.TextSource.
func (r *Roster) ScanText(ctx context.Context, q *query.Query, fn func(query.Texts) error) error {
	if q.Own {
		return r.cfg.Own.ScanText(ctx, q, fn)
	}
	return r.events(ctx, q, func(w *whole) error { return w.ScanText(ctx, q, fn) }, func(s *several.Source) error { return s.ScanText(ctx, q, fn) })
}

// Scan implements query.Source.
func (r *Roster) Scan(ctx context.Context, q *query.Query, fn func(*event.Event) error) error {
	if q.Own {
		return r.cfg.Own.Scan(ctx, q, fn)
	}
	return r.events(ctx, q, func(w *whole) error { return w.Source.Scan(ctx, w.query(q), fn) }, func(s *several.Source) error { return s.Scan(ctx, q, fn) })
}

// Follow implements query.Source. What comes of a collector that cannot be asked is said at once, and that is asked again.
func (r *Roster) Follow(ctx context.Context, q *query.Query, fn func(*event.Event) error, idle func(lost uint64) error) (err error) {
	if q.Own {
		return r.cfg.Own.Follow(ctx, q, fn, idle)
	}
	a, err := r.ask(ctx)
	if err != nil {
		return err
	}
	if !pages(q) {
		var done func()
		ctx, fn, idle, done = r.newcomers(ctx, a, q, fn, idle)
		defer func() {
			if done(); errors.Is(context.Cause(ctx), query.ErrStop) {
				err = nil
			}
		}()
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
