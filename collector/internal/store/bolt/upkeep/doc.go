// Package upkeep is what is done with a place's files beside serving it: Verify says
// whether everything in them is as it was written, Backup copies them, Salvage brings back
// what can be read of a partition that was set aside as damaged. The first two
// read the files without the store's lock and change nothing in it, so they run beside
// a server as well as without one: partitions as of their last batch, the journal
// up to its present end. The command line is the only one to import it; it imports
// the journal, the store and what lies below it.
package upkeep
