// Package bolt is the local place and the embedded engine. A store is a folder with one
// bbolt file, a partition, for each day of receipt (or part of a day), in which each
// batch's events are one group (store/group) under the batch's ID. What a writer needs to
// go on after a restart (its place in the journal, the hosts) is in the partition of the
// last batch, written by the same transaction. The state of resend detection is in a file
// of its own, written before. The partition of the last batch is open to be written, the
// others are opened to be read. With another engine, the same files are the place alone,
// with its Outbox. FORMAT.md describes the files. Only store/engine and upkeep import
// the package, beside tests.
//
// Packages below it: layout (names and values in the files), manifest (which files there
// are), pages (bbolt's own format), raw (files read as they lie on the disk, damaged or
// being written), upkeep (verify, backup, salvage).
//
// Reads run in short transactions that copy what they need, because bbolt has to wait for
// all readers when its file outgrows the mapping.
//
// Lock order: Outbox.mu, Store.appendMu, Store.mu, partition.mu, opened.mu. Under opened.mu
// another partition's mu is only tried (TryLock), never waited for.
package bolt
