package storetest

import (
	"context"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// ScanText is query.TextSource's ScanText of a source that has only a Scan.
func ScanText(ctx context.Context, scan func(context.Context, *query.Query, func(*event.Event) error) error, q *query.Query, fn func(query.Texts) error) error {
	return scan(ctx, q, func(ev *event.Event) error { return fn(&store.Texts{List: []store.Found{store.FoundOf(ev)}}) })
}
