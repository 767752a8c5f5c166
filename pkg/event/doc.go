// Package event groups records into events. An event consists of all records with the
// same node, time and serial, which may arrive in any order and mixed with those of other
// events.
//
// An Assembler serves records that are still arriving, from the kernel or a sender: it
// emits an event as soon as it is complete. pkg/logscan groups the records of finished
// logs, in the order in which ausearch prints events.
//
// The package starts no goroutine. Every package except record and tables may import it.
package event
