package terminal

import (
	"unicode"
	"unicode/utf8"
)

// AppendClean appends text, part of a line, in a form that a terminal shows completely
// and does not interpret as commands. It replaces some bytes by \ooo (three octal digits
// a byte), which is how the stock tools write control characters. Replaced are: control
// characters, including 0x80 to 0x9f; bytes that are not UTF-8; characters that have no
// visible form or no width of their own; and characters that change the direction of the
// text.
func AppendClean(dst, text []byte) []byte {
	for len(text) > 0 {
		if c := text[0]; c >= ' ' && c < 0x7f {
			dst, text = append(dst, c), text[1:]
			continue
		}
		r, n := utf8.DecodeRune(text)
		if (r != utf8.RuneError || n > 1) && shown(r) {
			dst = append(dst, text[:n]...)
		} else {
			dst = appendOctal(dst, text[:n])
		}
		text = text[n:]
	}
	return dst
}

// Clean is AppendClean for a string.
func Clean(s string) string { return string(AppendClean(nil, []byte(s))) }

// shown says whether a terminal shows r and does nothing else.
func shown(r rune) bool {
	switch {
	case r < 0x7f:
		return r >= ' '
	case r >= 0xfe00 && r <= 0xfe0f, r >= 0xe0100 && r <= 0xe01ef: // choose a form of what is before them
		return false
	case r == 0x034f, r == 0x115f, r == 0x1160, r == 0x17b4, r == 0x17b5, r == 0x3164, r == 0xffa0: // fillers
		return false
	}
	return unicode.IsGraphic(r) // no control, format, private or line separating character
}

func appendOctal(dst, b []byte) []byte {
	for _, c := range b {
		dst = append(dst, '\\', '0'+c>>6, '0'+c>>3&7, '0'+c&7)
	}
	return dst
}

const hexDigits = "0123456789abcdef"

// appendUnicode appends r as JSON escapes it.
func appendUnicode(dst []byte, r rune) []byte {
	if r > 0xffff {
		r -= 0x10000
		dst = appendUnicode(dst, 0xd800+r>>10)
		r = 0xdc00 + r&0x3ff
	}
	return append(dst, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
}
