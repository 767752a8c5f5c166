package clickhouse

import (
	"context"
	"fmt"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
)

// quorumTime is how long an insert waits for its quorum.
const quorumTime = 30 * time.Second

// insert inserts columns as one block, on a quorum of a shard's servers. again says that it was inserted more than once, of which ClickHouse may not have known.
func (c *servers) insert(ctx context.Context, nodes []*node, sql string, columns []any) (again bool, err error) {
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
	tries := 0
	err = c.on(ctx, nodes, func(ctx context.Context, n *node) (err error) {
		tries++
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
		return batch.Send()
	})
	return tries > 1, err
}
