// Package locallog writes the host's own audit.log in the stock format, with the
// stock daemon's flush modes and rotation. forwarder/internal/agent may import it.
//
// A log belongs to one goroutine, which makes all calls but Stats and Suspended; those
// any goroutine may make. Records that the disk does not accept are counted and logged,
// and WriteLines returns no error: the rest of the pipeline goes on without the local
// log, which tries again by itself.
//
// A file only ever holds whole lines: the log cuts off what a failed write left of a
// line before it writes anything else.
//
// Two more goroutines work for a log, each with a lock of its own: the syncer
// (incremental_async) and the packer, which compresses older files. packer.mu guards the
// names of the older files, so rotation holds it; no lock is held during a write of records.
package locallog
