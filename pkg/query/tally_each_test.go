package query

import (
	"strings"
	"testing"
)

// FuzzEach: values of combinations are what they were, and none has bytes that stand for something else.
func FuzzEach(f *testing.F) {
	for _, v := range []string{"", "a", "a\x00b", "\x01", "\x02root", "\x03", "\x03A\x03", "C\x03"} {
		f.Add(v, "x")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		x, y := string(AppendEach(nil, a)), string(AppendEach(nil, []byte(b)))
		if got := EachValue(x); got != a {
			t.Errorf("%q became %q", a, got)
		}
		if strings.ContainsAny(x, EachSeparator+EachAbsent+"\x02") || (x == y) != (a == b) {
			t.Errorf("%q and %q are %q and %q", a, b, x, y)
		}
		_ = EachValue(a) // no text from elsewhere panics
	})
}
