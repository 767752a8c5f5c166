package ruleset

import "strings"

// naturalCompare orders file names as ls -v does: runs of digits by their value,
// the rest by letters before other characters, and endings (.rules, .tar.gz)
// only when what is before them is the same.
func naturalCompare(a, b string) int {
	if c := versionCompare(stem(a), stem(b)); c != 0 {
		return c
	}
	if c := versionCompare(a, b); c != 0 {
		return c
	}
	return strings.Compare(a, b)
}

// stem cuts the endings off a name: as many dots as are each followed by a
// letter or ~ and then only letters, digits and ~. Something always remains.
func stem(name string) string {
	for {
		dot := strings.LastIndexByte(name, '.')
		if dot <= 0 || !isEnding(name[dot+1:]) {
			return name
		}
		name = name[:dot]
	}
}

func isEnding(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !isLetter(c) && c != '~' && (i == 0 || !isDigit(c)) {
			return false
		}
	}
	return s != ""
}

func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// versionCompare compares, in turn, what comes before the next digits and the
// value of those digits.
func versionCompare(a, b string) int {
	for a != "" || b != "" {
		for a != "" && !isDigit(a[0]) || b != "" && !isDigit(b[0]) {
			if d := weight(a) - weight(b); d != 0 {
				return d
			}
			a, b = a[1:], b[1:]
		}
		var x, y string
		x, a = number(a)
		y, b = number(b)
		if len(x) != len(y) {
			return len(x) - len(y)
		}
		if c := strings.Compare(x, y); c != 0 {
			return c
		}
	}
	return 0
}

// weight is the rank of a string's first character outside of numbers: ~ before
// the end, then digits and the end, letters, everything else.
func weight(s string) int {
	switch {
	case s == "":
		return -1
	case isDigit(s[0]):
		return 0
	case isLetter(s[0]):
		return int(s[0])
	case s[0] == '~':
		return -2
	}
	return int(s[0]) + 256
}

// number cuts the digits at the beginning, without leading zeros.
func number(s string) (digits, rest string) {
	n := 0
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	return strings.TrimLeft(s[:n], "0"), s[n:]
}
