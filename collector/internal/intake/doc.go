// Package intake is where every transport hands its records over, between its
// connections and the journal. A transport (ingest/remote is one) decodes what comes
// and answers it; what must be the same for all of them is here: the bytes that may be
// in flight, whether records are admitted at all, whom the journal is told they come
// from, what their sender is to be told of them, and what is counted and said of that.
// Transports and the server's wiring may import it; it imports journal, space and pkg.
//
// What a transport does for the records of a connection:
//
//  1. Connect, once, for the number and the sender that each of its batches has.
//  2. Acquire (or TryAcquire) as many bytes as it is about to read, and give back by
//     Release those that did not become a batch's. Enter says that the others did.
//  3. Submit the batch. Once done was called, or Submit has failed, Settle says what
//     the sender is to be told, in the order in which its batches came.
//  4. Leave gives the batch's bytes back. That follows the commit and not the answer:
//     how long a sender leaves its answers untaken is its own choice, and the
//     transport's to bound.
//
// A promise is made only here: Settle says Stored when the journal has said so.
// Nothing blocks but Acquire, and Submit of a batch that is not Deferred.
package intake
