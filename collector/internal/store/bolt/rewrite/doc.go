// Package rewrite writes the events of partitions into new files, by the days in which they happened: it merges the
// sources' groups, which are in order each, into few large ones, and reads what it has written again. It knows no open
// store: store/bolt, which alone imports it, says what is to be rewritten and puts the files in the place of the
// sources.
package rewrite
