// Package logscan reads logs: files with their rotated and compressed predecessors, and
// pipes. It groups the records into events and returns these in the order in which
// ausearch prints them.
//
// Code that needs all events of a log calls Scan. Scan runs one Worker for each core and
// passes events to the workers in batches, in no defined order; it then delivers the
// result of each batch in the order of the events. For a listing, Worker.Event formats,
// Flush returns the text and deliver writes it. For sums, deliver is nil: each worker
// adds up its own events, and the caller adds up the workers at the end.
//
// pkg/search, pkg/report and the forwarder may import it; the collector's store does not.
package logscan
