package agent

import (
	"errors"
	"os"
	"strings"
	"testing"
)

func TestNode(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		format, name, want string
		bad                bool
	}{
		{"none", "x", "", false},
		{"USER", "web1", "web1", false},
		{"user", "", "", true},
		{"user", "a b", "", true},
		{"user", "a=b", "", true},
		{"user", "a\nb", "", true},
		{"user", strings.Repeat("a", 256), "", true},
		{"hostname", "x", host, false},
	} {
		f, err := ParseNameFormat(c.format)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Node(t.Context(), f, c.name)
		if got != c.want && !c.bad || c.bad != errors.Is(err, ErrNodeName) {
			t.Errorf("%s %q: %q, %v, want %q", c.format, c.name, got, err, c.want)
		}
	}
	if _, err := ParseNameFormat("dns"); err == nil {
		t.Error("name_format = dns was taken")
	}
}
