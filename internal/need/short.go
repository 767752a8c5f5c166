package need

import (
	"os"
	"strconv"
	"testing"
)

// Size is how much of something a test needs: less under -short.
func Size(whole, short int) int {
	if testing.Short() {
		return short
	}
	return whole
}

// Rounds is how often a test repeats what it draws at random: less often under -short;
// AUDITFLEET_ROUNDS overrides both.
func Rounds(whole, short int) int {
	if n, err := strconv.Atoi(os.Getenv("AUDITFLEET_ROUNDS")); err == nil {
		return n
	}
	return Size(whole, short)
}

// Some is what a test compares of a long list: under -short so many of it, from all of
// its length, and all of it in the whole run.
func Some[T any](list []T, short int) []T {
	if !testing.Short() || len(list) <= short {
		return list
	}
	some := make([]T, 0, short)
	for i := range short {
		some = append(some, list[i*len(list)/short])
	}
	return some
}
