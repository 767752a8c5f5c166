package event

import "testing"

func TestSameName(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"web1", "web1", true},
		{"WEB1.Example.COM.", "web1.example.com", true},
		{"web1", "web1..", false},
		{"", ".", true},
		{"web1", "web2", false},
		{"web1", "web1\x00", false},
		{"wéb", "wÉb", false}, // DNS folds ASCII only
		{"[", "{", false},
		{"@", "`", false},
	} {
		if SameName([]byte(c.a), []byte(c.b)) != c.same || SameName([]byte(c.b), []byte(c.a)) != c.same {
			t.Errorf("%q and %q: not %v", c.a, c.b, c.same)
		}
		if same := FoldName(c.a) == FoldName(c.b); same != c.same {
			t.Errorf("%q and %q fold to %q and %q", c.a, c.b, FoldName(c.a), FoldName(c.b))
		}
	}
}
