package rules

import (
	"fmt"
	"strings"
)

// Word is one word of a line of a rule file.
type Word struct {
	Text string
	Col  int // the first byte's column, from 1
}

// SplitLine splits a line of a rule file into words, as auditctl -R does: at spaces. A
// backslash makes a following space or backslash part of the word; quotes have no
// meaning. A blank line or a comment has no words. Beyond auditctl, a tab separates
// words, too, a carriage return at the end is dropped, and the word after -F may be
// written as $'…' with C escapes, as Text writes control bytes.
func SplitLine(line string) []Word {
	line = strings.TrimSuffix(line, "\r")
	var words []Word
	for i := 0; i < len(line); {
		if line[i] == ' ' || line[i] == '\t' {
			i++
			continue
		}
		if len(words) == 0 && line[i] == '#' {
			return nil
		}
		start := i
		if len(words) > 0 && words[len(words)-1].Text == "-F" {
			if text, n, ok := unquoteC(line[i:]); ok {
				words = append(words, Word{text, start + 1})
				i += n
				continue
			}
		}
		var text []byte
		for ; i < len(line) && line[i] != ' ' && line[i] != '\t'; i++ {
			if line[i] == '\\' && i+1 < len(line) && (line[i+1] == ' ' || line[i+1] == '\\') {
				i++
			}
			text = append(text, line[i])
		}
		words = append(words, Word{string(text), start + 1})
	}
	return words
}

// Args returns the texts of words, in the form that ParseArgs accepts.
func Args(words []Word) []string {
	args := make([]string, len(words))
	for i, w := range words {
		args[i] = w.Text
	}
	return args
}

// Column returns the column of the error in the line, counted from 1 in bytes: that of
// the fault in its word, or 1 if the error concerns the whole line. The column does not
// account for escapes before the fault within the word, so it may be too small by their
// number.
func (e *Error) Column(words []Word) int {
	if e.Arg < 0 || e.Arg >= len(words) {
		return 1
	}
	return words[e.Arg].Col + e.Off
}

// JoinLine returns a line that SplitLine splits into the same words.
func JoinLine(args []string) string {
	var b strings.Builder
	for i, a := range args {
		if i > 0 {
			b.WriteByte(' ')
		}
		if i > 0 && args[i-1] == "-F" && needsC(a) {
			b.WriteString(quoteC(a))
			continue
		}
		b.WriteString(escape.Replace(a))
	}
	return b.String()
}

var escape = strings.NewReplacer(`\`, `\\`, " ", `\ `)

// needsC reports whether a word can't stand in a line as it is.
func needsC(s string) bool {
	return s == "" || strings.HasPrefix(s, "$'") || hasControl(s)
}

func hasControl(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return true
		}
	}
	return false
}

func quoteC(s string) string {
	var b strings.Builder
	b.WriteString("$'")
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\'' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('\'')
	return b.String()
}

// unquoteC reads $'…' at the beginning of s; n is its length. It must end the
// word.
func unquoteC(s string) (text string, n int, ok bool) {
	rest, ok := strings.CutPrefix(s, "$'")
	if !ok {
		return "", 0, false
	}
	var b []byte
	for i := 0; i < len(rest); i++ {
		switch c := rest[i]; {
		case c == '\'':
			n = len("$'") + i + 1
			return string(b), n, n == len(s) || s[n] == ' ' || s[n] == '\t'
		case c != '\\':
			b = append(b, c)
		case i+1 < len(rest) && (rest[i+1] == '\'' || rest[i+1] == '\\'):
			i++
			b = append(b, rest[i])
		case i+3 < len(rest) && rest[i+1] == 'x' && digit(rest[i+2]) < 16 && digit(rest[i+3]) < 16:
			b = append(b, byte(digit(rest[i+2])<<4|digit(rest[i+3])))
			i += 3
		default:
			return "", 0, false
		}
	}
	return "", 0, false
}
