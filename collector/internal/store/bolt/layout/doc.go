// Package layout says how a store lies on the disk: the names of its files, what each file
// says of itself, and the values in them whose format is the place's own. Groups have their own
// (store/group). FORMAT.md, in the folder above, describes it all. Only packages below store/bolt import it;
// it imports the manifest, whose file it knows to be one of a store's.
package layout
