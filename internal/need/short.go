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
