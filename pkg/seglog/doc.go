// Package seglog is a durable append-only log in segment files: the collector's
// journal and the forwarder's spool. Entries are opaque bytes with consecutive
// indexes from 1. What Sync has confirmed survives a crash and is there once;
// what is damaged later is set aside and named, never silently dropped. FORMAT.md
// describes the files. It imports pkg/fsys only; storage code of either daemon
// may import it.
//
// Concurrency: all methods of Log may be called at once. Readers share nothing
// with Append but a few atomics; every Reader has its own file handle and is for
// one goroutine. Log.mu is the only lock; it is not held during a sync.
package seglog
