package tables

import (
	"strings"
	"sync"
)

type errnoTable struct {
	byNum  []string // by number, "" for a gap
	byName map[string]int
}

var errnos = sync.OnceValue(func() *errnoTable {
	t := &errnoTable{byName: make(map[string]int, strings.Count(errnoText, "\n")+4)}
	eachLine(errnoText, func(num int, name string) {
		for len(t.byNum) <= num {
			t.byNum = append(t.byNum, "")
		}
		t.byNum[num] = name
		t.byName[name] = num
	})
	eachLine(errnoAliasText, func(num int, name string) { t.byName[name] = num })
	return t
})

// ErrnoName returns the name of a positive error number, as on x86 and ARM; false if it
// has none.
func ErrnoName(n int) (string, bool) {
	t := errnos()
	if n <= 0 || n >= len(t.byNum) {
		return "", false
	}
	return t.byNum[n], t.byNum[n] != ""
}

// ErrnoByName returns the positive number of the error called s, in any case. It also
// knows EWOULDBLOCK, EDEADLOCK and ENOTSUP.
func ErrnoByName(s string) (int, bool) {
	n, ok := errnos().byName[strings.ToUpper(s)]
	return n, ok
}
