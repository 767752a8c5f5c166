package need

import (
	"maps"
	"os"
	"slices"
	"strconv"
	"testing"
)

// Size returns how much of something a test uses: whole, or short under -short.
func Size(whole, short int) int {
	if testing.Short() {
		return short
	}
	return whole
}

// Rounds returns how often a test repeats a random experiment: whole, or short under
// -short. AUDITFLEET_ROUNDS overrides both.
func Rounds(whole, short int) int {
	if n, err := strconv.Atoi(os.Getenv("AUDITFLEET_ROUNDS")); err == nil {
		return n
	}
	return Size(whole, short)
}

// Turn returns the names of the questions that a test asks in the n-th of so many situations: under -short each is asked in one of
// them, otherwise all in each.
func Turn[T any](questions map[string]T, n, situations int) []string {
	all := slices.Sorted(maps.Keys(questions))
	if !testing.Short() {
		return all
	}
	var some []string
	for i := n; i < len(all); i += situations {
		some = append(some, all[i])
	}
	return some
}

// Some returns the part of a long list that a test compares: under -short so many
// elements, spread over the whole list; otherwise the whole list.
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
