package rules

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/auditfleet/auditfleet/pkg/nearest"
)

// Error is returned for a command line that is refused. Msg is auditctl's message; Hint
// says what is wrong with the word and what to do next. Arg is the index of the argument
// at fault (-1 for none); Off and Len are the place of the fault in it, in bytes.
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

// Detail returns lines that show where in args the error is and what to do, each with a
// newline at its end; "" if there is nothing to add to Msg.
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
	near := nearest.Word(word, min(3, max(1, len(word)/3)), candidates)
	if near == "" {
		return ""
	}
	return "did you mean " + near + "?"
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
