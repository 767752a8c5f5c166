package rules

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Error is a command line that is refused. Msg is what auditctl says, Hint what
// is wrong with the word and what to do next. Arg is the index of the argument
// at fault (-1: none), Off and Len the bytes of it.
type Error struct {
	Msg  string
	Hint string
	Arg  int
	Off  int
	Len  int
	// Warnings are those of the words before the error.
	Warnings []Warning
}

// ExitCode is auditctl's exit code for a command line it refuses.
const ExitCode = 255

func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Msg
	}
	return e.Msg + " (" + e.Hint + ")"
}

// Detail shows where in args the error is and what to do, in lines of their own
// that each end in a newline; "" when there is nothing to add to Msg.
func (e *Error) Detail(args []string) string {
	var b strings.Builder
	if e.Arg >= 0 && e.Arg < len(args) {
		showPlace(&b, args, e)
	}
	if e.Hint != "" {
		fmt.Fprintf(&b, "  %s\n", e.Hint)
	}
	return b.String()
}

// placeWidth is how much of a long command line is shown around the word.
const placeWidth = 72

func showPlace(b *strings.Builder, args []string, e *Error) {
	line, start, width := "", 0, 0
	for i, a := range args {
		if i > 0 {
			line += " "
		}
		if i == e.Arg {
			off, n := min(e.Off, len(a)), e.Len
			if n <= 0 || off+n > len(a) {
				n = len(a) - off
			}
			start = len(line) + len(printable(a[:off]))
			width = max(1, utf8.RuneCountInString(printable(a[off:off+n])))
		}
		line += printable(a)
	}
	col := utf8.RuneCountInString(line[:start])
	runes := []rune(line)
	if len(runes) > placeWidth {
		from := max(0, min(col-placeWidth/2, len(runes)-placeWidth))
		to := min(len(runes), from+placeWidth)
		cut := string(runes[from:to])
		if from > 0 {
			cut, col = "…"+cut, col+1
		}
		if to < len(runes) {
			cut += "…"
		}
		line, col = cut, col-from
	}
	width = max(1, min(width, utf8.RuneCountInString(line)-col))
	fmt.Fprintf(b, "  %s\n  %s%s\n", line, strings.Repeat(" ", col), strings.Repeat("^", width))
}

// printable replaces what would move the caret or the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
}

// suggest returns "did you mean …?" for the candidate nearest to word, "" when
// none is near.
func suggest(word string, candidates []string) string {
	best, bestDist := "", 1+min(3, max(1, len(word)/3))
	lower := strings.ToLower(word)
	for _, c := range candidates {
		if d := distance(lower, strings.ToLower(c), bestDist); d < bestDist {
			best, bestDist = c, d
		}
	}
	if best == "" {
		return ""
	}
	return "did you mean " + best + "?"
}

// distance counts insertions, deletions, replacements and swaps of neighbours
// between a and b; limit or more when there are at least that many.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit || len(a) > 64 {
		return limit
	}
	before, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev, cur = prev, cur, before
	}
	return prev[len(b)]
}

// or joins the non-empty hints.
func or(hints ...string) string {
	joined := ""
	for _, h := range hints {
		switch {
		case h == "" || joined == "":
			joined += h
		case strings.HasSuffix(joined, "?"):
			joined += " " + strings.ToUpper(h[:1]) + h[1:]
		default:
			joined += "; " + h
		}
	}
	return joined
}
