// Package journal is the collector's write-ahead log: a batch of records is
// acknowledged once it is here, and here only until the store has it. It is
// also where resends are recognised, before anything is written, so that replay
// never meets one. Whoever submits to it or takes from it may import it; it imports
// packages of pkg only.
//
// One goroutine at a time commits: it takes everything submitted meanwhile, writes
// it with one write and one sync (group commit), puts the batches where Take finds
// them and calls each one's done in order of submission. It is the journal's own,
// or, for few records that find nobody committing, the one in Submit or Commit:
// senders in lockstep are then answered without a hand-over. A deferred batch waits
// for a Commit, or for the next that is not. A taker waits for more as long as it
// likes, unless somebody waits for it; see Take. Bytes submitted and
// not yet taken are bounded: when the taker does not keep up, Submit blocks, and
// with it the senders' acknowledgements. That is the whole of the back-pressure.
//
// What must hold, and what keeps it:
//   - Every kept record has an LSN; LSNs are consecutive in order of commit and
//     never reused, also over restarts: Start is told the greatest the store knows.
//   - A record of which the store knows the LSN is durable here or was trimmed
//     because it is durable there: the store's writer calls Sync before it
//     commits, whatever the flush mode.
//   - What resend detection remembers was committed: a failed commit is forgotten.
//   - Record bytes belong to the batch from Submit on; nobody changes them.
//
// Lock order: Journal.commitMu (commit, trim, senders), then Journal.mu (queue, counters).
package journal
