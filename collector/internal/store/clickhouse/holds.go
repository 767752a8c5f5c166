package clickhouse

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

var _ store.Shared = (*Engine)(nil)

// holdsOf begins the names of the rows of meta that say how many holds a collector has; its store's ID follows.
const holdsOf = "holds of "

// KeepHolds implements store.Shared.
func (e *Engine) KeepHolds(ctx context.Context, change uint64, holds int) error {
	names, of, err := e.cluster.shards(ctx)
	if err != nil {
		return err
	}
	_, err = e.cluster.insert(ctx, of[names[0]], "INSERT INTO "+e.cluster.address.Database+".meta (name, value)",
		[]any{[]string{holdsOf + e.opts.Store}, []string{fmt.Sprintf("%020d %d", change, holds)}})
	return err
}

// heldElsewhere returns the stores of other collectors that have holds, and are not gone for good.
func (e *Engine) heldElsewhere(ctx context.Context) (stores []string, err error) {
	names, of, err := e.cluster.shards(ctx)
	if err != nil {
		return nil, err
	}
	sql := "SELECT name, max(value) FROM " + e.cluster.address.Database + ".meta WHERE name LIKE '" + holdsOf + "%' GROUP BY name"
	err = e.cluster.shard(of[names[0]]).ask(ctx, sql, func() { stores = nil }, func(scan func(...any) error) error {
		var name, value string
		err := scan(&name, &value)
		if id := strings.TrimPrefix(name, holdsOf); id != e.opts.Store && !strings.HasSuffix(value, " 0") {
			stores = append(stores, id)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read which collectors have holds: %w", err)
	}
	if len(stores) == 0 {
		return nil, nil
	}
	members, err := e.Members(ctx)
	return slices.DeleteFunc(stores, func(id string) bool {
		return slices.ContainsFunc(members, func(m store.Member) bool { return m.Store == id && m.Lost != 0 })
	}), err
}
