package clickhouse

import (
	"context"
	"fmt"
	"strings"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// Version is that of the tables. No release has made any of versions 1 to 5.
const Version = 6

// tables are the names of all tables.
var tables = []string{"events", "batches", "stored", "gone", "meta", "collectors", "hosts", "accounts", "senders"}

// schema returns the statements that make the tables of a database on one server; made tables stay as they are. FORMAT.md says what
// their columns are. Each shard has the events that belong to it, and its own word of which batches there are. {shard} and {replica}
// are macros of the server's configuration.
func schema(db string) []string {
	replicated := func(engine, table string) string {
		return fmt.Sprintf("ENGINE = %s('/auditfleet/%s/{shard}/%s', '{replica}'", engine, db, table)
	}
	events := make([]string, 0, len(indexed))
	for _, f := range indexed {
		kind := "String"
		if several(f) {
			kind = "Array(String)"
		}
		events = append(events, column(f)+" "+kind)
	}
	events = append(events, others+" Array(String)")
	const taken = "taken UInt64 DEFAULT toUInt64(now()) * 1000" // by the server's clock, the one that all collectors have in common
	return []string{
		"CREATE DATABASE IF NOT EXISTS " + db,
		"CREATE TABLE IF NOT EXISTS " + db + ".events (day Int32, part UInt32, node String, ts_ms Int64, serial UInt64, batch UInt64, store String, seq UInt32, " +
			"host String, counted UInt8, text String, size UInt32, received Int64, later String, transport UInt8, sender String, proved String, apart UInt8, " +
			strings.Join(events, ", ") + ") " + replicated("ReplicatedReplacingMergeTree", "events") + ") PARTITION BY (day, part) " +
			"ORDER BY (" + key + ") SETTINGS index_granularity = 2048, replicated_deduplication_window = 1000",
		"CREATE TABLE IF NOT EXISTS " + db + ".batches (day Int32, part UInt32, store String, batch UInt64, events UInt64, records UInt64, bytes UInt64, min_ms Int64, max_ms Int64, again UInt8, class String, first UInt64, proof String) " +
			replicated("ReplicatedReplacingMergeTree", "batches") + ") PARTITION BY (day, part) ORDER BY (store, batch, day, part, first)",
		"CREATE TABLE IF NOT EXISTS " + db + ".stored (store String, batch UInt64) " +
			replicated("ReplicatedReplacingMergeTree", "stored") + ", batch) ORDER BY store",
		"CREATE TABLE IF NOT EXISTS " + db + ".gone (store String, host String, day Int32, part UInt32, happened Int32, at UInt64, " + taken + ", class String, min_ms Int64, max_ms Int64) " +
			replicated("ReplicatedReplacingMergeTree", "gone") + ", at) PARTITION BY intDiv(taken, 2592000000) ORDER BY (store, host, day, part, happened)",
		"CREATE TABLE IF NOT EXISTS " + db + ".meta (name String, value String) " +
			replicated("ReplicatedReplacingMergeTree", "meta") + ") ORDER BY (name, value)",
		"CREATE TABLE IF NOT EXISTS " + db + ".collectors (store String, at UInt64, " + taken + ", data String) " +
			replicated("ReplicatedReplacingMergeTree", "collectors") + ", at) ORDER BY store",
		"CREATE TABLE IF NOT EXISTS " + db + ".hosts (store String, host String, at UInt64, " + taken + ", batch UInt64, received UInt64, stored UInt64, age UInt64, data String) " +
			replicated("ReplicatedReplacingMergeTree", "hosts") + ", at) ORDER BY (store, host)",
		"CREATE TABLE IF NOT EXISTS " + db + ".accounts (store String, host String, at UInt64, " + taken + ", data String) " +
			replicated("ReplicatedReplacingMergeTree", "accounts") + ", at) ORDER BY (store, host)",
		"CREATE TABLE IF NOT EXISTS " + db + ".senders (key String, store String, at UInt64, " + taken + ", value String) " +
			replicated("ReplicatedReplacingMergeTree", "senders") + ", at) PARTITION BY intDiv(taken, 86400000) ORDER BY (key, store)",
		"CREATE TABLE IF NOT EXISTS " + db + ".spare (n UInt8, x UInt64) " +
			replicated("ReplicatedMergeTree", "spare") + ") PARTITION BY n ORDER BY n",
	}
}

// prepare makes the tables on a server and looks whether they are of a version that this program knows, and are used as the address says: with
// another number of shards, or without some replicas, answers would be short, and batches on fewer servers than was promised.
func (n *node) prepare(ctx context.Context, a *Address, readOnly bool) error {
	db := a.Database
	made := schema(db)
	if readOnly {
		made = nil
	}
	for _, sql := range made {
		if err := n.conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("make the tables: %w", err)
		}
	}
	for _, x := range []struct {
		name string
		is   uint64
	}{{"version", Version}, {"shards", uint64(a.Shards)}} {
		name, is := x.name, x.is
		var least, most uint64
		sql := "SELECT min(toUInt64OrZero(value)), max(toUInt64OrZero(value)) FROM " + db + ".meta WHERE name = " + quote(name)
		if err := n.conn.QueryRow(ctx, sql).Scan(&least, &most); err != nil {
			return fmt.Errorf("read the tables' %s: %w", name, err)
		}
		switch {
		case most == 0 && readOnly:
			return fmt.Errorf("its tables say no %s: no collector has begun to use them", name)
		case most == 0:
			if err := n.conn.Exec(ctx, fmt.Sprintf("INSERT INTO %s.meta (name, value) SELECT '%s', '%d'", db, name, is)); err != nil {
				return fmt.Errorf("write the tables' %s: %w", name, err)
			}
		case name == "version" && most > is:
			return fmt.Errorf("%w: its tables are of version %d, this program knows up to %d", store.ErrVersion, most, Version)
		case name == "version" && least < is:
			return fmt.Errorf("%w: its tables are of version %d, which no release has made: name another database", store.ErrVersion, least)
		case name == "shards" && (least != is || most != is):
			return fmt.Errorf("its tables were made for shards=%d, and shards=%d is said: name the servers of all shards, and say how many shards there are", most, is)
		}
	}
	var replicas uint64
	if err := n.conn.QueryRow(ctx, "SELECT toUInt64(max(total_replicas)) FROM system.replicas WHERE database = "+quote(db)+" AND table = 'events'").Scan(&replicas); err != nil {
		return fmt.Errorf("read how many replicas there are: %w", err)
	}
	if named := (len(a.Nodes) + a.Shards - 1) / a.Shards; a.Quorum == 0 && replicas > uint64(named) {
		return fmt.Errorf("its shard has %d replicas, and %d servers a shard are named, of which more than half would be too few: name all servers, or say with quorum= how many must have what is stored", replicas, named)
	}
	return nil
}
