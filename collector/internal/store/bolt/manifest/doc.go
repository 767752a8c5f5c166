// Package manifest reads and writes a store's MANIFEST, a small file that lists which files
// the store has. It has the store's ID, the partitions, what is known of the journal's
// segments, and what was found missing: so the store notices a file that somebody took
// away, put in or put back. Packages below store/bolt import it; it imports pkg only. The
// file's format is in ../FORMAT.md.
//
// What must hold: everything that is listed is there, whatever a power cut leaves. A
// partition is listed after its file has got its name and before a batch goes into it, and
// is taken off the list before the file is deleted. So a file may be there without being
// listed; the ID in it tells whether it is the store's.
package manifest
