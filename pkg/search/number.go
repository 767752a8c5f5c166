package search

import (
	"errors"
	"strconv"
	"strings"
)

// The reasons why a value is no number, in the words of errno, which the stock tool
// prints.
const (
	tooLarge  = "Numerical result out of range"
	notNumber = "Invalid argument"
)

// The largest values that the newest stock tool takes.
const (
	maxID  = 1<<32 - 1 // of users, groups, sessions and events
	maxInt = 1<<31 - 1 // of processes, system calls and record types
)

// wholeNumber reads a value that is a decimal number and nothing else; why says what is
// wrong with it otherwise. A number with junk behind it is refused: what it begins with
// was not meant, and 0x3e9 begins with root's.
func wholeNumber(v string, most uint64) (n uint64, why string) {
	for i := range len(v) {
		if v[i]-'0' > 9 {
			return 0, notNumber
		}
	}
	n, err := strconv.ParseUint(v, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange) || err == nil && n > most:
		return 0, tooLarge
	case err != nil:
		return 0, notNumber
	}
	return n, ""
}

// signedNumber reads a number in C's notation, hex and octal included; false when it is
// none, or does not fit into bits.
func signedNumber(v string, bits int) (int64, bool) {
	digits := strings.TrimPrefix(v, "-")
	for i := range len(digits) {
		if !isCDigit(digits[i]) { // Go's notation has more: 1_000, 0b1, 0o7
			return 0, false
		}
	}
	if len(digits) > 1 && digits[0] == '0' && digits[1]|0x20 == 'b' {
		return 0, false
	}
	n, err := strconv.ParseInt(v, 0, bits)
	return n, err == nil
}

func isCDigit(c byte) bool {
	return c-'0' <= 9 || (c|0x20) >= 'a' && (c|0x20) <= 'f' || c|0x20 == 'x'
}

func isDigit(s string) bool { return s != "" && s[0] >= '0' && s[0] <= '9' }

// isNegative says whether a value is meant to be a number below 0.
func isNegative(v string) bool { return strings.HasPrefix(v, "-") && isDigit(v[1:]) }

// noName says whether a value is not the name of an account, as even other hosts have
// it: it is empty, begins with '-', or is a number with
// blanks or a sign.
func noName(v string) bool {
	trimmed := strings.TrimSpace(v)
	return trimmed == "" || trimmed[0] == '-' || isDigit(strings.TrimLeft(trimmed, "+ "))
}
