// Package event puts records together into events: those with the same node,
// time and serial, however they interleave, until the event is complete or late.
// It starts no goroutine. It may be imported by interpret, search, report and
// the parts of both programs.
package event
