// Package seal keeps a store's log: a leaf for each group of events that was stored, for each
// partition that was dropped, and for what else happened to the store, in one Merkle tree that only
// grows (golang.org/x/mod/sumdb/tlog). Whoever has a signed checkpoint of it (pkg/checkpoint) can tell later whether
// anything of what was stored by then was changed, taken away or put in.
//
// Tree is the files in the store's folder; the place that keeps the groups appends to it, under its own
// lock: each group's leaf lies in the group's partition first, in the same transaction, and comes into the tree
// from there, in order of batches, so that a crash neither loses nor doubles one. Log signs what the
// tree has, and keeps the checkpoints. FORMAT.md has every byte of both.
//
// The store's packages, the server and the command line import it; it knows none of them.
package seal
