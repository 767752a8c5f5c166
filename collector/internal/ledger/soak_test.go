//go:build soak

package ledger

func init() { quietRounds = 3000 }
