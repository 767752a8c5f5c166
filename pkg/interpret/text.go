package interpret

import (
	"bytes"
	"strings"
)

// Escape says which characters are escaped in values that a program could choose
// (ausearch --escape).
type Escape uint8

// The ways of escaping.
const (
	EscapeTTY        Escape = iota // control characters as \ooo
	EscapeRaw                      // nothing
	EscapeShell                    // and what a shell would read
	EscapeShellQuote               // and the rest that it might
)

const (
	shellSpecial = "\"'`$\\!()| "
	quoteSpecial = shellSpecial + ";#&*?[]<>{}"
)

// AppendEscaped appends text to dst and escapes it according to mode.
func AppendEscaped(dst, text []byte, mode Escape) []byte {
	return escapeFrom(append(dst, text...), len(dst), mode, false)
}

// escapeFrom escapes what was appended to dst since from; keys keeps the \x01
// between keys.
func escapeFrom(dst []byte, from int, mode Escape, keys bool) []byte {
	special := ""
	switch mode {
	case EscapeRaw:
		return dst
	case EscapeShell:
		special = shellSpecial
	case EscapeShellQuote:
		special = quoteSpecial
	}
	at := from
	for at < len(dst) && dst[at] >= ' ' && (special == "" || strings.IndexByte(special, dst[at]) < 0) {
		at++
	}
	if at == len(dst) {
		return dst
	}
	rest := append([]byte(nil), dst[at:]...)
	dst = dst[:at]
	for _, c := range rest {
		switch {
		case keys && c == 1:
			// appendKeys makes it the next "key="
		case c < ' ':
			dst = append(dst, '\\', '0'+c>>6, '0'+c>>3&7, '0'+c&7)
			continue
		case special != "" && strings.IndexByte(special, c) >= 0:
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return dst
}

// appendUntrusted appends a quoted or hex string. As for the stock tool, it ends
// at its first NUL.
func appendUntrusted(dst, v []byte) []byte {
	if len(v) > 0 && v[0] == '"' {
		i := bytes.IndexByte(v[1:], '"')
		if i < 0 {
			return append(dst, ' ') // the quote was cut off with the record
		}
		return append(dst, v[1:1+i]...)
	}
	if len(v) >= 2 && v[0] == '0' && v[1] == '0' { // the name of an abstract socket
		return appendHex(dst, v[2:], v)
	}
	return appendHex(dst, v, v)
}

// appendHex appends the text that the hex digits v begins with stand for, up to a
// NUL, or else raw as it is.
func appendHex(dst, v, raw []byte) []byte {
	n := HexLen(v)
	if n < 2 {
		if len(raw) > 0 && raw[0] == '(' { // (null), (none)
			if i := bytes.IndexByte(raw, ')'); i >= 0 {
				raw = raw[:i+1]
			}
		}
		return append(dst, raw...)
	}
	for i := 0; i < n; i += 2 {
		c := HexByte(v, i)
		if c == 0 {
			break
		}
		dst = append(dst, c)
	}
	return dst
}

// HexByte returns the byte that the two hex digits at v[i:] stand for. A missing second
// digit counts as 0.
func HexByte(v []byte, i int) byte {
	c := nibble(v[i]) << 4
	if i+1 < len(v) {
		if low := nibble(v[i+1]); low < 16 {
			c |= low
		}
	}
	return c
}

// HexLen returns the number of hex digits at the start of v.
func HexLen(v []byte) int {
	n := 0
	for n < len(v) && nibble(v[n]) < 16 {
		n++
	}
	return n
}

// appendProctitle appends a command line, whose arguments end in NUL.
func appendProctitle(dst, v []byte) []byte {
	if len(v) > 0 && v[0] == '"' {
		return appendUntrusted(dst, v)
	}
	n := HexLen(v)
	if n < 2 {
		return appendHex(dst, v, v)
	}
	for i := 0; i < n; i += 2 {
		c := HexByte(v, i)
		if c == 0 {
			if i+2 > n { // half a byte
				break
			}
			c = ' '
		}
		dst = append(dst, c)
	}
	for i := (n + 1) / 2; i < len(v)/2; i++ { // NULs in place of what is no hex
		dst = append(dst, ' ')
	}
	return dst
}
