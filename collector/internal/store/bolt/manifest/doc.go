// Package manifest is the small file that says which files a store has: its ID, the
// partitions there are, what is known of the journal's segments, and what was found
// missing. A file that is taken away, put in or put back is noticed by it. Packages below
// store/bolt import it; it imports pkg only. The file's format is in ../FORMAT.md.
//
// What must hold, and what keeps it: a partition is listed after it has got its name
// and before a batch goes into it; it is taken off the list before it is deleted. So
// whatever a power cut leaves, all that is listed is there. What is there and not
// listed is taken for the store's own by the ID in it.
package manifest
