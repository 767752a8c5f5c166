// Package event puts records together into events. An event is all records with the
// same node, time and serial, in whatever order they and those of other events come.
//
// An Assembler is for records that are still coming, from the kernel or a sender: it
// emits an event as soon as it is complete. The records of finished logs are put
// together by pkg/logscan, in the order in which ausearch prints events.
//
// It starts no goroutine. Every package but record and tables may import it.
package event
