// Package locallog writes the host's own audit.log in the stock format, with the
// stock daemon's flush modes and rotation. forwarder/internal/agent may import it.
//
// A log belongs to one goroutine, which calls everything but Stats. What the
// disk can't take is counted and said, never an error that ends the caller: the
// rest of the pipeline goes on without the local log, which tries again by
// itself.
//
// A file only ever holds whole lines: what a failed write left of a line is cut
// off before anything else is written.
package locallog
