package clickhouse

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

var _ store.Shared = (*Engine)(nil)

// holdsOf begins the names of the rows of meta that say how many holds a collector has; its store's ID follows.
const holdsOf = "holds of "

// KeepHolds implements store.Shared.
func (e *Engine) KeepHolds(ctx context.Context, change uint64, holds int) error {
	first, err := e.first(ctx)
	if err != nil {
		return err
	}
	return e.cluster.say(ctx, first, []string{holdsOf + e.opts.Store}, []string{fmt.Sprintf("%020d %d", change, holds)})
}

// heldElsewhere returns the stores of other collectors that have holds, and are not gone for good.
func (e *Engine) heldElsewhere(ctx context.Context) (stores []string, err error) {
	first, err := e.first(ctx)
	if err != nil {
		return nil, err
	}
	holds, err := e.cluster.said(ctx, first, holdsOf)
	if err != nil {
		return nil, fmt.Errorf("read which collectors have holds: %w", err)
	}
	for _, id := range slices.Sorted(maps.Keys(holds)) {
		if id != e.opts.Store && !strings.HasSuffix(holds[id], " 0") {
			stores = append(stores, id)
		}
	}
	if len(stores) == 0 {
		return nil, nil
	}
	members, err := e.Members(ctx)
	return slices.DeleteFunc(stores, func(id string) bool {
		return slices.ContainsFunc(members, func(m store.Member) bool { return m.Store == id && m.Lost != 0 })
	}), err
}
