package several

import (
	"context"
	"errors"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// ScanText implements query.TextSource. It fails only if no collector is left; what else the answer lacks,
// Missing says. Errors: ErrOne for a query with batches.
func (s *Source) ScanText(ctx context.Context, q *query.Query, fn func(query.Texts) error) error {
	if q.Batches || q.After != nil || q.AfterBatch != 0 {
		return ErrOne
	}
	if err := s.none(); err != nil {
		return err
	}
	most := q.Limit
	if most > 0 {
		most += limitMore
	}
	n, err := s.scan(ctx, q, most, 0, fn)
	if errors.Is(err, errShort) {
		n, err = s.scan(ctx, q, 0, n, fn)
	}
	switch {
	case errors.Is(err, query.ErrStop):
		return nil
	case err != nil:
		return err
	case n == 0:
		return s.none()
	}
	return nil
}

// Scan implements query.Source, as ScanText.
func (s *Source) Scan(ctx context.Context, q *query.Query, fn func(*event.Event) error) error {
	return s.ScanText(ctx, q, func(t query.Texts) error {
		for _, f := range t.(*store.Texts).List {
			if err := fn(parsed(&f)); err != nil {
				return err
			}
		}
		return nil
	})
}

func parsed(f *store.Found) *event.Event {
	host := f.Host
	if host == "" {
		host = f.Node
	}
	return store.ParseText(f.Text, f.Counted, []byte(host), f.Origin)
}
