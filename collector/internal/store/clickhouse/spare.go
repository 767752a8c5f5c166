package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	ch "github.com/ClickHouse/clickhouse-go/v2"
)

// What is dropped is said first, and rows that say it take room, which disks that are full do not have. So the first shard keeps some room for them: a table whose partitions say
// nothing. To drop one takes none.

const (
	// spares is how many partitions it has: other collectors may take the room of one.
	spares = 8
	// spareRows is how many rows of 8 bytes, which no compression makes fewer, each of them has.
	spareRows = 512 << 10
)

// wantsRoom reports whether something was not written in the shard for want of room: the server that was asked says so, or one that the quorum waits for, and that has none to fetch
// what the other took. Disks are not filled to the same byte.
func (e *Engine) wantsRoom(ctx context.Context, first []*node, err error) bool {
	switch {
	case noRoom(err):
		return true
	case !unsatisfied(err) && !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil:
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	full := make([]bool, len(first))
	var wg sync.WaitGroup
	for i, n := range first {
		wg.Go(func() {
			var waits uint64
			sql := "SELECT count() FROM system.replication_queue WHERE database = " + quote(e.cluster.address.Database) + " AND positionCaseInsensitive(last_exception, 'space') > 0"
			full[i] = n.conn.QueryRow(ctx, sql).Scan(&waits) == nil && waits > 0 // one that is away says nothing
		})
	}
	wg.Wait()
	return slices.Contains(full, true)
}

// spare drops one of the partitions; false where none is left.
func (e *Engine) spare(ctx context.Context, first []*node) (bool, error) {
	there, err := e.spared(ctx, first)
	if err != nil || len(there) == 0 {
		return false, err
	}
	if err := e.cluster.dropPartition(ctx, first, "spare", fmt.Sprint(there[0])); err != nil {
		return false, fmt.Errorf("make room for what says that a part is dropped: %w", err)
	}
	e.opts.Log.Warn("the disks of the cluster's first shard are full: what was kept free there is used to drop days", "left", len(there)-1, "of", spares)
	return true, nil
}

// spared returns which partitions a server has. One that lacks something for its disk is full has these all the same.
func (e *Engine) spared(ctx context.Context, first []*node) (there []uint8, err error) {
	sql := "SELECT groupUniqArray(n) FROM " + e.cluster.address.Database + ".spare"
	err = e.cluster.on(ctx, first, asking, func(ctx context.Context, n *node) error { return n.conn.QueryRow(ctx, sql).Scan(&there) })
	if err != nil {
		return nil, fmt.Errorf("read what is kept free: %w", err)
	}
	return there, nil
}

// fillSpare makes the partitions that are not there. Where there is no room for that, the next drop does it.
func (e *Engine) fillSpare(ctx context.Context, first []*node) {
	if !e.filling.CompareAndSwap(false, true) {
		return
	}
	defer e.filling.Store(false)
	there, err := e.spared(ctx, first)
	for n := uint8(1); n <= spares && err == nil; n++ {
		if !slices.Contains(there, n) {
			sql := fmt.Sprintf("INSERT INTO %s.spare SELECT toUInt8(%d), sipHash64(number) FROM system.numbers LIMIT %d", e.cluster.address.Database, n, spareRows)
			err = e.cluster.on(ctx, first, storing, func(ctx context.Context, n *node) error {
				return n.conn.Exec(ch.Context(ctx, ch.WithSettings(ch.Settings{"insert_deduplicate": 0})), sql)
			})
		}
	}
	if err != nil {
		e.opts.Log.Debug("room is not kept free in the cluster now", "error", err)
	}
}
