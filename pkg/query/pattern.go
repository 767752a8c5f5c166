package query

import "strings"

// IsPattern says whether a text is more than the name it spells: * in it stands for any
// text, ? for one byte.
func IsPattern(text string) bool { return strings.ContainsAny(text, "*?") }

// Like reports whether name is like pattern, in which * stands for any text and ? for one
// byte.
func Like(pattern, name string) bool {
	// Where the last * was, and how much of name it stands for so far: when the rest
	// does not fit, it stands for one byte more.
	star, taken := -1, 0
	at := 0
	for i := 0; i < len(name); {
		switch {
		case at < len(pattern) && pattern[at] == '*':
			star, taken = at, i
			at++
		case at < len(pattern) && (pattern[at] == '?' || pattern[at] == name[i]):
			at++
			i++
		case star >= 0:
			taken++
			at, i = star+1, taken
		default:
			return false
		}
	}
	return strings.Trim(pattern[at:], "*") == ""
}
