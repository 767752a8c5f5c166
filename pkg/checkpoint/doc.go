// Package checkpoint has what a collector's log says of itself, signed: how many leaves it has and
// the root of their Merkle tree, when, and of which store. Its form is that of the Go checksum
// database and of C2SP's tlog-checkpoint: a note (golang.org/x/mod/sumdb/note) with one signature or
// more, over a tree of golang.org/x/mod/sumdb/tlog (RFC 6962). FORMAT.md has the bytes.
//
// It imports nothing of ours. The collector signs with it; forwarders, which keep and compare what
// they are sent, and whoever checks a copy of a store read with it. All functions may be called by
// many goroutines at once.
package checkpoint
