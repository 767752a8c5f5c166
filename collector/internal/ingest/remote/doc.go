// Package remote takes records in over the audisp-remote protocol, in clear text: it
// decodes a connection's frames, hands their records to the intake and answers them, in
// the order in which they came. It is one user of package intake; what all transports
// share is there. The collector's server wires it between listen and intake and is the
// only one to import it.
//
// A session is read by a poller (package poll): in a turn of its session it reads what
// has come and submits it deferred; at the end of a round of turns one commit makes all
// of it durable, and the replies are written. So the poller's goroutine must not block.
// What might is done by the session's own goroutine, in Serve, which sleeps else: it
// waits for room, and for the end. A session has one goroutine that reads it at a time:
// the poller's, or its own while poll.Handle.Serve does not run.
//
// The journal calls done from whatever goroutine commits, and a sender that does not
// take its replies must hold up nobody. So done only makes the replies. They are written
// by one goroutine a session at a time, the one that has set session.writing: who
// submitted the batch, one of the few writers, the poller at the end of its round, or
// one of the session's own for as long as its sender's window is full.
//
// Lock order: session.mu, then writers.mu, owed.mu and those of poll and intake. Nothing
// blocks under any.
package remote
