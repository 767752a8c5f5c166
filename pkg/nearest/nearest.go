// Package nearest finds what a mistyped word was probably meant to be. It imports
// nothing of ours.
package nearest

import "strings"

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
