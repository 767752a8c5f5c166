// Package seglog is a durable append-only log in segment files: the collector's
// journal and the forwarder's spool. Entries are opaque bytes with consecutive
// indexes from 1. An entry that Sync has confirmed survives a crash, exactly once;
// bytes that are damaged later are set aside and reported, never silently dropped.
// FORMAT.md describes the files. It imports pkg/fsys only; storage code of either
// daemon may import it.
//
// Concurrency: all methods of Log may be called at once, but KeepHome by one goroutine
// at a time. A Reader belongs to one goroutine and reads at its own offset; with Append
// it shares the list of segments and each segment's end, which are atomics, and a
// segment's points and held file. Log.mu serializes what changes the log; it is released
// while a sync waits for the device. Under it segment.mu and Log.locking may be taken,
// and under those no other lock.
package seglog
