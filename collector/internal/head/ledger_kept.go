//go:build !noledger

package head

// keepsLedger is false only in the programs that `make bench` builds to learn what the ledger costs.
const keepsLedger = true
