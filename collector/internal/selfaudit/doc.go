// Package selfaudit stores the records that the collector makes of what it does itself
// (DAEMON_*), under its own node and in the words of the stock daemon, and of what is asked of it
// (USER_CMD, collector(8)). Only the server's wiring imports it; it imports journal, pkg, and api, head
// and listen for the reports that it makes records of.
//
// Whoever adds a record must not wait for the disk, and peers must not be able to fill the
// disk with records. So records wait in a bounded queue for one goroutine that submits them
// to the journal; beyond the bound they are dropped, counted and logged. Of records that
// peers can cause at will, only so many a second are stored. They do not go through the
// intake: when the disk is full and nothing is taken from others, these records still are,
// into the reserve.
package selfaudit
