// Package nearest finds what a mistyped word was probably meant to be. It imports
// nothing of ours.
package nearest

import (
	"slices"
	"strings"
)

// longest is the length in bytes beyond which a word is no typing mistake: the work
// grows with the product of the lengths.
const longest = 64

// Word returns the candidate that at most `most` edits make of word, "" where none is
// so near. Of several the one with the fewest edits counts, and of those the first. An
// edit inserts, deletes or replaces a byte, or swaps two neighbours; upper and lower
// case are the same.
func Word(word string, most int, candidates []string) string {
	best, bound := "", most+1
	lower := strings.ToLower(word)
	for _, c := range candidates {
		if d := distance(lower, strings.ToLower(c), bound); d < bound {
			best, bound = c, d
		}
	}
	return best
}

// mostHinted is how many candidates a Hint names.
const mostHinted = 3

// Hint returns ": did you mean A, B or C?" for the candidates that word was probably meant
// to be, or "" where none is near: those that few edits make of it, or else those that
// have it in them.
func Hint(word string, candidates []string) string {
	near := Words(word, mostHinted, candidates)
	switch n := len(near); n {
	case 0:
		return ""
	case 1:
		return ": did you mean " + near[0] + "?"
	default:
		return ": did you mean " + strings.Join(near[:n-1], ", ") + " or " + near[n-1] + "?"
	}
}

// Words returns at most n candidates that word was probably meant to be, the nearest
// first.
func Words(word string, n int, candidates []string) []string {
	lower := strings.ToLower(word)
	bound := min(3, max(1, len(word)/3)) + 1
	byDistance := make([][]string, bound)
	var parts []string
	for _, c := range candidates {
		name := strings.ToLower(c)
		if d := distance(lower, name, bound); d < bound {
			byDistance[d] = append(byDistance[d], c)
		} else if len(word) >= 3 && strings.Contains(name, lower) {
			parts = append(parts, c)
		}
	}
	near := slices.Concat(byDistance...)
	if len(near) == 0 {
		slices.SortStableFunc(parts, func(a, b string) int { return len(a) - len(b) })
		near = parts
	}
	return near[:min(n, len(near))]
}

// distance is the number of edits that make b of a, or bound where it is that or more.
func distance(a, b string, bound int) int {
	if len(a)-len(b) >= bound || len(b)-len(a) >= bound || len(a) > longest {
		return bound
	}
	// Row i holds the distances of a[:i] from every beginning of b; a swap looks two
	// rows back.
	before, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, prev, row = prev, row, before
	}
	return min(prev[len(b)], bound)
}
