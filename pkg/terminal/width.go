package terminal

import (
	"bytes"
	"strings"
	"unicode"

	"golang.org/x/text/width"
)

// Width returns how many columns of a terminal s occupies: two for a wide character
// (Chinese, Japanese, Korean, most emoji; Unicode's East Asian Width), none for a
// character that combines with the one before it. s must not contain control characters.
func Width(s string) (n int) {
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

func runeWidth(r rune) int {
	if r < 0x300 {
		return 1
	}
	switch k := width.LookupRune(r).Kind(); {
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case k == width.EastAsianWide, k == width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// Pad returns s with spaces appended up to a width of so many columns.
func Pad(s string, columns int) string {
	return s + strings.Repeat(" ", max(0, columns-Width(s)))
}

// Widths returns how many columns the widest cell of each column of a table takes. All rows
// must have as many cells as the first.
func Widths(rows [][]string) []int {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], Width(cell))
		}
	}
	return widths
}

// AppendRow appends a row of a table to dst, without a newline: two spaces separate
// columns, right says which are flush right, and the row does not end in spaces.
func AppendRow(dst []byte, row []string, widths []int, right []bool) []byte {
	from := len(dst)
	for i, cell := range row {
		pad := strings.Repeat(" ", max(0, widths[i]-Width(cell)))
		if right[i] {
			cell, pad = pad, cell
		}
		dst = append(append(append(dst, cell...), pad...), "  "...)
	}
	return dst[:from+len(bytes.TrimRight(dst[from:], " "))]
}
