// Package poll reads from many connections in one goroutine. The runtime wakes a
// thread for each connection that something came on, which costs several times what
// a record does: a fleet of thousands sends a record here and one there. Here one
// goroutine takes what has come on all of them by turns, and when it is little and the
// last round just over, waits a moment for more, in which nothing wakes it (gate). Package listen makes its connections, package ingest/remote reads them;
// it imports nothing of ours.
//
// A connection is in one of two hands, never in both: the poller's, which calls the
// handle's ready when something has come, or those of the goroutine that is in
// Handle.Serve, which returns when ready has said so or after a Kick. So ready must
// not block; what may, the goroutine does.
//
// Lock order: Poller.mu is a leaf. Ready and the round's end are called without it.
package poll
