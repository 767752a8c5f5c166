// Package upkeep is what is done with a store beside serving it: verify says
// whether everything in it is as it was written, and backup copies it. Both read
// the files without the store's lock and change nothing in it, so they run beside
// a server as well as without one: partitions as of their last batch, the journal
// up to its present end. The command line is the only one to import it; it imports
// journal, store and pkg.
package upkeep
