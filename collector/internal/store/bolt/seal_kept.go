//go:build !noseal

package bolt

// keepsSeal is false only in the programs that `make bench` builds to learn what the seal costs.
const keepsSeal = true
