package output

import (
	"bytes"
	"strconv"
	"unicode/utf8"

	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// Bounds of what one line says. What is left out is counted in its place.
const (
	longestValue    = 4096 // of a path or another single value: PATH_MAX
	longestArgument = 256
	longestCommand  = 1024 // all arguments
)

// appendQuoted appends text as a shell reads it, so that it is one word whatever is in it:
// as it is, in '…' or "…", or in $'…' with \ooo for each byte that a terminal would obey or not
// show. Of a text of more than most bytes it appends the begin, and how many bytes more
// there are.
func appendQuoted(dst, text []byte, most int) []byte {
	rest := 0
	if len(text) > most {
		cut := most
		for cut > most-utf8.UTFMax && !utf8.RuneStart(text[cut]) {
			cut--
		}
		text, rest = text[:cut], len(text)-cut
	}
	switch quoteOf(text) {
	case bare:
		dst = append(dst, text...)
	case single:
		dst = append(append(append(dst, '\''), text...), '\'')
	case double:
		dst = append(append(append(dst, '"'), text...), '"')
	default:
		dst = appendDollar(dst, text)
	}
	if rest > 0 {
		dst = append(strconv.AppendInt(append(dst, "...(+"...), int64(rest), 10), " bytes)"...)
	}
	return dst
}

// quoting is how a word is written.
type quoting uint8

const (
	bare quoting = iota
	single
	double
	dollar
)

func quoteOf(text []byte) quoting {
	if len(text) == 0 {
		return single
	}
	q, quotes, doubles := bare, false, true
	for i := 0; i < len(text); {
		c := text[i]
		if c < utf8.RuneSelf {
			switch {
			case c < ' ' || c == 0x7f:
				return dollar
			case !isPlainByte(c):
				q = single
				quotes = quotes || c == '\''
				doubles = doubles && bytes.IndexByte([]byte("\"$`\\!"), c) < 0
			}
			i++
			continue
		}
		n := runeLen(text[i:])
		if !isShown(text[i : i+n]) {
			return dollar
		}
		if n == 2 && text[i] == 0xc2 || n == 3 && text[i] == 0xe3 && text[i+1] == 0x80 { // blanks and the like beyond ASCII
			q = single
		}
		i += n
	}
	switch {
	case quotes && doubles:
		return double
	case quotes:
		return dollar
	}
	return q
}

func isPlainByte(c byte) bool {
	return c-'a' <= 'z'-'a' || c-'A' <= 'Z'-'A' || c-'0' <= 9 || bytes.IndexByte([]byte("_-./:,+@%=^"), c) >= 0
}

func runeLen(text []byte) int {
	_, n := utf8.DecodeRune(text)
	return n
}

// isShown says whether a terminal shows one character and does nothing else.
func isShown(char []byte) bool {
	var buf [4 * utf8.UTFMax]byte
	return bytes.Equal(terminal.AppendClean(buf[:0], char), char)
}

// appendDollar appends text in $'…'.
func appendDollar(dst, text []byte) []byte {
	dst = append(dst, "$'"...)
	for len(text) > 0 {
		n := 1
		switch c := text[0]; c {
		case '\'', '\\':
			dst = append(dst, '\\', c)
		default:
			n = runeLen(text)
			dst = terminal.AppendClean(dst, text[:n])
		}
		text = text[n:]
	}
	return append(dst, '\'')
}
