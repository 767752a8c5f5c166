package query

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestLike(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"web*", "web1", true}, {"web*", "web", true}, {"web?", "web1", true}, {"web?", "web", false}, {"*", "", true}, {"", "", true},
		{"*.example.com", "a.example.com", true}, {"*.example.com", "a.example.org", false}, {"w*b*1", "web1", true}, {"w*b*1", "web2", false},
		{"?", "", false}, {"a", "ab", false}, {"ab", "a", false}, {"*a*a*a*b", strings.Repeat("a", 2000), false},
	} {
		if got := Like(c.pattern, c.name); got != c.want {
			t.Errorf("%.20s is like %s: %v", c.name, c.pattern, got)
		}
	}
}

// It agrees with the regular expression that means the same.
func TestLikeModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringMatching(`[ab*?]{0,8}`).Draw(t, "pattern")
		name := rapid.StringMatching(`[ab]{0,8}`).Draw(t, "name")
		re := regexp.MustCompile("^" + strings.NewReplacer("*", ".*", "?", ".").Replace(pattern) + "$")
		if got := Like(pattern, name); got != re.MatchString(name) {
			t.Errorf("%q is like %q: %v", name, pattern, got)
		}
	})
}
