// Package clickhouse is an engine that keeps events in a ClickHouse cluster. It implements store.Engine and is put behind a place's
// outbox: what the place hands over is stored in the cluster once, whatever dies, and answers are the embedded engine's, byte for
// byte. FORMAT.md has the tables.
//
// The cluster narrows, the matcher decides: a query's conditions become SQL as far as they can, and every row that comes back is
// parsed and matched as anywhere else. Rows come by windows of time, each read whole before any of it is given: so memory is
// bounded, and a replica that dies under a window only has the window read again from another one. An answer is whole, or an error.
//
// Only store/engine imports it.
package clickhouse
