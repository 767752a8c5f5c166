package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
)

// quorumTime is how long an insert waits for its quorum.
const quorumTime = 30 * time.Second

// insert inserts columns as one block, on a quorum of a shard's servers.
func (c *servers) insert(ctx context.Context, nodes []*node, sql string, columns []any) error {
	_, err := c.insertBlock(ctx, nodes, sql, columns, 2)
	return err
}

// insertBlock is insert for a block with rows of so many partitions. again says that some of it may have been inserted more than once, of which ClickHouse may not have known.
func (c *servers) insertBlock(ctx context.Context, nodes []*node, sql string, columns []any, partitions int) (again bool, err error) {
	if c.fault != nil {
		if err := c.fault(); err != nil {
			return false, err
		}
		defer func() {
			if err == nil {
				err = c.fault()
			}
		}()
	}
	settings := ch.Settings{"insert_deduplicate": 1}
	if q := c.quorum(len(nodes)); q > 1 {
		settings["insert_quorum"] = q
		settings["insert_quorum_timeout"] = int(quorumTime.Milliseconds())
	}
	maybe := false // what was tried before is there
	err = c.on(ctx, nodes, storing, func(ctx context.Context, n *node) (err error) {
		again = again || maybe
		maybe = false
		// The connection's deadline is the context's.
		ctx, cancel := context.WithTimeout(ctx, 2*quorumTime)
		defer cancel()
		batch, err := n.conn.PrepareBatch(ch.Context(ctx, ch.WithSettings(settings)), sql)
		if err != nil {
			return err
		}
		defer func() {
			if err != nil {
				_ = batch.Abort() // the first error says it
			}
		}()
		for i, values := range columns {
			if err := batch.Column(i).Append(values); err != nil {
				return fmt.Errorf("column %d: %w", i, err)
			}
		}
		err = batch.Send()
		maybe = err != nil && !refused(err, partitions)
		return err
	})
	return again, err
}

// refused reports whether nothing of a block that failed so was inserted. Where several collectors store in one shard they wait for each other so (286), all the time.
func refused(err error, partitions int) bool {
	var e *ch.Exception
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case 285: // before the first of its partitions is written
		return true
	case 286: // likewise, by these words; by others behind some
		return partitions == 1 || strings.Contains(e.Message, "previous write has not been satisfied")
	case 242:
		return partitions == 1
	}
	return false
}
