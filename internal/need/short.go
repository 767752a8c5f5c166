package need

import "testing"

// Rounds is how often a test repeats what it draws at random: few times under -short,
// and many in the whole run.
func Rounds(many, few int) int {
	if testing.Short() {
		return few
	}
	return many
}

// Some is what a test compares of a long list: under -short so many of it, from all of
// its length, and all of it in the whole run.
func Some[T any](list []T, few int) []T {
	if !testing.Short() || len(list) <= few {
		return list
	}
	some := make([]T, 0, few)
	for i := range few {
		some = append(some, list[i*len(list)/few])
	}
	return some
}
