// Package order makes an answer of its pieces (store.Piece): it unpacks the blocks among them, looks which of their events match, and gives
// all in the order of the answer. Who asks a collector does that with what the collector sends as it is stored. It trusts nothing of it.
package order
