package rules

import (
	"math"
	"math/bits"
)

// cNumber is what C's strtoul or strtol with base 0 make of a word, cut to 32
// bits as the kernel's field is.
type cNumber struct {
	value    uint32
	used     int  // bytes read
	wide     bool // more than 32 bits: value is not what was written
	overflow bool // more than 64 bits
}

func startsDigit(s string) bool { return s != "" && s[0] >= '0' && s[0] <= '9' }

func startsNegative(s string) bool { return len(s) >= 2 && s[0] == '-' && startsDigit(s[1:]) }

// parseNumber reads a word that begins with a digit as strtoul does, one that
// begins with a minus as strtol does.
func parseNumber(s string) cNumber {
	i, neg := 0, false
	for i < len(s) && (s[i] == ' ' || s[i] >= '\t' && s[i] <= '\r') {
		i++
	}
	if i < len(s) && (s[i] == '-' || s[i] == '+') {
		neg = s[i] == '-'
		i++
	}
	base := uint64(10)
	if i < len(s) && s[i] == '0' {
		base = 8
		if i+2 < len(s) && s[i+1]|0x20 == 'x' && digit(s[i+2]) < 16 {
			base, i = 16, i+2
		}
	}
	start, n, over := i, uint64(0), false
	for ; i < len(s) && digit(s[i]) < base; i++ {
		hi, lo := bits.Mul64(n, base)
		sum, carry := bits.Add64(lo, digit(s[i]), 0)
		over = over || hi != 0 || carry != 0
		n = sum
	}
	c := cNumber{used: i, overflow: over}
	if i == start {
		c.used = 0
		return c
	}
	if over {
		n = math.MaxUint64
	}
	if neg {
		if over || n > 1<<63 {
			n, c.overflow = 1<<63, true
		}
		c.wide = c.overflow || n > 1<<31
		c.value = uint32(-n)
		return c
	}
	c.wide = c.overflow || n > math.MaxUint32
	c.value = uint32(n)
	return c
}

// digit returns the value of a digit, 99 for what is none.
func digit(b byte) uint64 {
	switch {
	case b >= '0' && b <= '9':
		return uint64(b - '0')
	case b|0x20 >= 'a' && b|0x20 <= 'f':
		return uint64(b|0x20-'a') + 10
	}
	return 99
}
