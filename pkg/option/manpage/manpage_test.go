package manpage

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.8")
	page := `.Dt X 8
.Sh NAME
.Nm x
.Sh DESCRIPTION
.It Cm word
No key: it is in the description.
.Sh OPTIONS
.It Fl -long Ar FILE
.It Fl h , Fl -help
.Sh KEYS
.Ss Of one kind
.It Cm one No = Ar N
.It Cm two
.Sh MORE KEYS
.It Cm three
.Sh EXAMPLES
# x --long a b
$ x -h
no command
`
	if err := os.WriteFile(file, []byte(page), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Read(file)
	if err != nil {
		t.Fatal(err)
	}
	want := &Page{
		Options:  map[string]bool{"--long": true, "-h": true, "--help": true},
		Keys:     map[string]map[string]bool{"KEYS": {"one": true, "two": true}, "MORE KEYS": {"three": true}},
		Sections: []string{"NAME", "DESCRIPTION", "OPTIONS", "KEYS", "MORE KEYS", "EXAMPLES"},
		Examples: [][]string{{"x", "--long", "a", "b"}, {"x", "-h"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := Read(file + ".none"); !os.IsNotExist(err) {
		t.Errorf("a page that is not there: %v", err)
	}
}

func TestCompare(t *testing.T) {
	page := map[string]bool{"--a": true, "--old": true}
	if wrong := Compare("option", page, []string{"--a", "--old"}); wrong != nil {
		t.Errorf("%v", wrong)
	}
	want := []string{"option --new is not in the page", "the page has option --old, which there is not"}
	if wrong := Compare("option", page, []string{"--a", "--new"}); !slices.Equal(wrong, want) {
		t.Errorf("%q", wrong)
	}
}
