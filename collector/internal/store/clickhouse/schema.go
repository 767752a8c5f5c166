package clickhouse

import (
	"context"
	"fmt"
	"strings"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// Version is that of the tables.
const Version = 1

// schema returns the statements that make the tables of a database on one server; made tables stay as they are. FORMAT.md says what
// their columns are. Each shard has the events that belong to it, and its own word of which batches there are. {shard} and {replica}
// are macros of the server's configuration.
func schema(db string) []string {
	replicated := func(engine, table string) string {
		return fmt.Sprintf("ENGINE = %s('/auditfleet/%s/{shard}/%s', '{replica}'", engine, db, table)
	}
	events := make([]string, 0, len(indexed))
	for _, f := range indexed {
		events = append(events, column(f)+" Array(String)")
	}
	return []string{
		"CREATE DATABASE IF NOT EXISTS " + db,
		"CREATE TABLE IF NOT EXISTS " + db + ".events (day Int32, part UInt32, node String, ts_ms Int64, serial UInt64, batch UInt64, store String, seq UInt32, " +
			"host String, counted UInt8, text String, size UInt32, received Int64, later String, transport UInt8, sender String, proved String, " +
			strings.Join(events, ", ") + ") " + replicated("ReplicatedReplacingMergeTree", "events") + ") PARTITION BY (day, part) " +
			"ORDER BY (node, ts_ms, serial, batch, store, seq) SETTINGS index_granularity = 2048, replicated_deduplication_window = 1000",
		"CREATE TABLE IF NOT EXISTS " + db + ".batches (day Int32, part UInt32, store String, batch UInt64, events UInt64, records UInt64, bytes UInt64, min_ms Int64, max_ms Int64) " +
			replicated("ReplicatedReplacingMergeTree", "batches") + ") PARTITION BY (day, part) ORDER BY (store, batch, day, part)",
		"CREATE TABLE IF NOT EXISTS " + db + ".meta (name String, value String) " +
			replicated("ReplicatedReplacingMergeTree", "meta") + ") ORDER BY (name, value)",
	}
}

// prepare makes the tables on a server and looks whether they are of a version that this program knows.
func (n *node) prepare(ctx context.Context, db string) error {
	for _, sql := range schema(db) {
		if err := n.conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("make the tables: %w", err)
		}
	}
	var version uint64
	if err := n.conn.QueryRow(ctx, "SELECT max(toUInt64OrZero(value)) FROM "+db+".meta WHERE name = 'version'").Scan(&version); err != nil {
		return fmt.Errorf("read the tables' version: %w", err)
	}
	switch {
	case version > Version:
		return fmt.Errorf("%w: its tables are of version %d, this program knows up to %d", store.ErrVersion, version, Version)
	case version == 0:
		if err := n.conn.Exec(ctx, fmt.Sprintf("INSERT INTO %s.meta (name, value) SELECT 'version', '%d'", db, Version)); err != nil {
			return fmt.Errorf("write the tables' version: %w", err)
		}
	}
	return nil
}
