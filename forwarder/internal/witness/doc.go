// Package witness keeps what collectors sign of their logs (pkg/checkpoint), and compares each new
// checkpoint with the one kept: a collector whose log was changed or put back since cannot say both.
// What is kept lies in the folder "witness" of the spool (FORMAT.md). The forwarder's gRPC transport
// hands it what comes, the agent runs it and says in the stream what it found, and the command line
// lists it.
//
// A finding is said once, with both checkpoints kept as evidence, and then what the collector says now
// is what later checkpoints are compared with: so a store that was put back on purpose does not
// alarm for ever. Only what is not signed as it should be is never gone by.
//
// What peers can cost is bounded: a checkpoint's length, how many are looked at a second, stores, days
// and pieces of evidence kept, and what is said a minute.
package witness
