package nearest

import (
	"strings"
	"testing"
)

func TestWord(t *testing.T) {
	keys := []string{"flush", "freq", "store", "state_file", "max_days"}
	for _, c := range []struct {
		word string
		most int
		want string
	}{
		{"flsh", 1, "flush"},              // a letter is missing
		{"flluush", 2, "flush"},           // two are too many
		{"flluush", 1, ""},                // and that is too far
		{"stoer", 1, "store"},             // two are swapped
		{"FREQ", 1, "freq"},               // case is no edit
		{"frex", 1, "freq"},               // another letter
		{"", 1, ""},                       // nothing was typed
		{"max-days", 1, "max_days"},       // a dash
		{"something_else", 4, ""},         // nothing is near
		{strings.Repeat("x", 65), 65, ""}, // longer than any word
	} {
		if got := Word(c.word, c.most, keys); got != c.want {
			t.Errorf("%q within %d edits is %q, want %q", c.word, c.most, got, c.want)
		}
	}
	if got := Word("ab", 1, []string{"ac", "b", "ab"}); got != "ab" {
		t.Errorf("%q, want the nearest of all", got)
	}
	if got := Word("xb", 1, []string{"ab", "b"}); got != "ab" {
		t.Errorf("%q, want the first of those that are as near", got)
	}
}

func TestHint(t *testing.T) {
	for _, c := range []struct{ word, want string }{
		{"opnat", ": did you mean openat?"},
		{"opena", ": did you mean open or openat?"},
		{"exec", ": did you mean execve or execveat?"},
		{"OPEN", ": did you mean open?"},
		{"", ""},
		{"zzzzzz", ""},
		{"at", ""},
	} {
		if got := Hint(c.word, []string{"open", "openat", "execveat", "execve"}); got != c.want {
			t.Errorf("%s: %q, want %q", c.word, got, c.want)
		}
	}
}
