// Package layout knows how a store lies on the disk: the names of its files, the marks that
// each file has of itself, and the values whose format is the place's own (state, hosts, IDs).
// Groups have a package of their own (store/group). FORMAT.md, in the folder above,
// describes all of it. Only packages below store/bolt import it; it imports the manifest,
// to know that file as one of a store's.
package layout
