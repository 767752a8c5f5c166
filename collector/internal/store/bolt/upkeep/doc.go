// Package upkeep verifies, copies and mends the files of a store of store/bolt and its
// journal. Verify checks whether everything in them is as it was written, Backup copies
// them, Salvage brings back what can be read of a partition that was set aside as damaged.
// Verify and Backup read the files without the store's lock and change nothing, so they run
// beside a server as well as without one: they see partitions as of the last batch, and
// the journal up to its present end. Salvage and Forget open the store, which no server may
// have then. Only the command line imports it; it imports the journal, the store and the
// packages below it.
package upkeep
