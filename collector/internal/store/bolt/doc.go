// Package bolt is the local place and the embedded engine: one bbolt file a day of receipt
// below DIR/partitions, in which each batch's events are one group (store/group) under
// its ID. What a writer needs to go on (how far it is in the journal, the hosts) is in
// the file of the last batch, written in the same transaction; the state of resend
// detection is in a file of its own, written before. The newest partition is
// writable, the others are opened to read. With another engine the same files are the
// place alone, and its Outbox. FORMAT.md describes the files. Only store/engine and upkeep
// import it, beside tests.
//
// Below it, each for itself: layout (names and values in the files), manifest (which files
// there are), pages (bbolt's own format), raw (files as they lie there, damaged or being
// written), upkeep (verify, backup, salvage).
//
// Reads run in short transactions that copy what they need, because bbolt has to
// wait for all readers when its file outgrows the mapping.
//
// Lock order: Outbox.mu, Store.appendMu, Store.mu, partition.mu, opened.mu; under the last
// only TryLock of another partition's.
package bolt
