package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	ch "github.com/ClickHouse/clickhouse-go/v2"
)

// errFollows is returned for a server that is not the leader of a table's replicas.
var errFollows = errors.New("it is not the leader of its shard's replicas")

// lacking is how a server names a part that a quorum has taken, and it has not.
var lacking = regexp.MustCompile(`^Replica doesn't have part ([^_ ]+)_`)

// lacksDeleted says whether a server refuses to answer a statement because it lacks a part whose whole partition is deleted: 18.16 remembers of each what a quorum took last, and forgets that never. It has been
// asked before whether it has all that is stored, and has nothing of that partition.
func (c *servers) lacksDeleted(ctx context.Context, n *node, sql string, err error) bool {
	var e *ch.Exception
	if !errors.As(err, &e) || e.Code != 289 {
		return false
	}
	m := lacking.FindStringSubmatch(e.Message)
	if m == nil {
		return false
	}
	there := uint64(1)
	parts := "SELECT count() FROM system.parts WHERE active AND database = " + quote(c.address.Database) + " AND table IN (" + quoteAll(c.read(sql)) + ") AND partition_id = " + quote(m[1])
	return n.conn.QueryRow(ctx, parts).Scan(&there) == nil && there == 0
}

// dropPartition deletes a partition of a table in a shard. The leader of the replicas does that: 18.16 sends it on from the others, and as a user whom the leader may not know.
func (c *servers) dropPartition(ctx context.Context, nodes []*node, table, name string) error {
	leads := "SELECT is_leader FROM system.replicas WHERE database = " + quote(c.address.Database) + " AND table = " + quote(table)
	return c.on(ctx, nodes, storing, func(ctx context.Context, n *node) error {
		var is uint8
		if err := n.conn.QueryRow(ctx, leads).Scan(&is); err != nil {
			return err
		}
		if is == 0 {
			return errFollows
		}
		return n.conn.Exec(ctx, fmt.Sprintf("ALTER TABLE %s.%s DROP PARTITION %s", c.address.Database, table, name))
	})
}
