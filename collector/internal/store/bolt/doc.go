// Package bolt is the embedded store: one bbolt file a day of receipt below
// DIR/partitions, in which each batch's events are one group (store/group) under
// its ID. What a writer needs to go on (its place in the journal, the hosts) is in
// the file of the last batch, written in the same transaction; the state of resend
// detection is in a file of its own, written before. The newest partition is
// writable, the others are opened to read. FORMAT.md describes the files. The
// server's wiring and the command line may import it; it imports store,
// store/group and pkg.
//
// Reads run in short transactions that copy what they need, because bbolt has to
// wait for all readers when its file outgrows the mapping.
//
// Lock order: Store.appendMu, Store.mu, partition.mu, opened.mu; under the last only
// TryLock of another partition's.
package bolt
