//go:build noledger

package head

const keepsLedger = false
