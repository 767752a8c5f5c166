package query

import (
	"regexp/syntax"
	"strings"
	"unicode/utf8"
)

// Part returns a text that every value has which can satisfy the term, or "" where there is none that is known. An index that knows which texts are
// in its values needs no look at these where it has none with that text.
func (t *Term) Part() string {
	switch t.Op {
	case OpContains:
		return t.Text
	case OpRegexp:
		re, err := syntax.Parse(t.Text, syntax.Perl)
		if err != nil { // Check says so
			return ""
		}
		return partOf(re)
	}
	return ""
}

// partOf returns the longest text that all that a regular expression finds is known to have.
func partOf(re *syntax.Regexp) (part string) {
	switch re.Op {
	case syntax.OpLiteral:
		// Bytes that are no UTF-8 are found as U+FFFD.
		if text := string(re.Rune); re.Flags&syntax.FoldCase == 0 && !strings.ContainsRune(text, utf8.RuneError) {
			return text
		}
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			if p := partOf(sub); len(p) > len(part) {
				part = p
			}
		}
	case syntax.OpCapture, syntax.OpPlus:
		return partOf(re.Sub[0])
	case syntax.OpRepeat:
		if re.Min > 0 {
			return partOf(re.Sub[0])
		}
	}
	return part
}
