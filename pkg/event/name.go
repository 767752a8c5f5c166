package event

import (
	"bytes"
	"strings"
)

// FoldName returns the form in which names of hosts are the same: DNS does not tell upper from
// lower case, and a dot at the end says nothing.
func FoldName(name string) string {
	name = strings.TrimSuffix(name, ".")
	for i := range len(name) {
		if c := name[i]; 'A' <= c && c <= 'Z' {
			return foldFrom(name, i)
		}
	}
	return name
}

func foldFrom(name string, i int) string {
	b := []byte(name)
	for ; i < len(b); i++ {
		b[i] = lower(b[i])
	}
	return string(b)
}

// SameName reports whether two names of hosts are the same by FoldName.
func SameName(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true // nearly always
	}
	a, b = cutDot(a), cutDot(b)
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] && lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func cutDot(name []byte) []byte {
	if n := len(name); n > 0 && name[n-1] == '.' {
		return name[:n-1]
	}
	return name
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}
