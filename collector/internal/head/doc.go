// Package head is the collector's memory between journal and store: it parses
// each committed record once, puts records together into events, gathers the
// events of all hosts in a table, and has the store take the table when it is
// large or old enough; then the journal is trimmed. Searches go through it, since
// it knows what the store does not have yet. Upkeep, the server's wiring and
// the command line may import it; it imports journal, store and pkg.
//
// One goroutine (run) parses and assembles, in order of LSN; another (flush) lets
// the store take one table while the next one fills. When a table is full and
// the one before is not stored yet, run waits; then the journal's queue fills, and
// then senders wait. Memory is therefore at most two tables, the journal's queue
// and the open events.
//
// Exactly once: a table is cut between two batches, at an LSN. Every record up to
// it is in this table, in an earlier one, or in an event that is still open; the
// list of the latter goes into the same transaction as the table. At start, the
// journal is replayed: records up to the stored LSN only when they are on the
// list, all later ones. A clean stop does not end open events: their records stay
// in the journal, and what arrives after the start completes them.
//
// A search sees each event once: the tables are looked up before the store's
// snapshot is made, and a table whose ID the snapshot has is left out.
//
// Lock order: Head.mu, then Table's and Journal's own.
package head
