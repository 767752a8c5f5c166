// Package selfaudit has the collector audit itself: it stores the records that the
// collector makes of its own doings (DAEMON_*) under its own node, in the words of the
// stock daemon. The server's wiring is the only one to import it; it imports journal,
// pkg, and of head and listen what is told of.
//
// Whoever adds a record must not wait for the disk, and must not fill it: records wait in
// a bounded queue for one goroutine that submits them, those beyond are dropped, counted
// and said in the log, and of what peers can cause at will only some are stored. They go
// to the journal past the intake: a collector that takes nothing from others because its
// disk is full says so in its reserve.
package selfaudit
