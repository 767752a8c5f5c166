// Package golden compares the result of a test with a file that holds the expected
// result. `go test PACKAGE -update` writes the files again; review them before you commit
// them. Any package's tests may import it; no other code does.
package golden

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write golden files again instead of comparing with them")

// Update reports whether the test must write its golden files instead of comparing with
// them. It serves tests whose files are more than one text.
func Update() bool { return *update }

// Compare fails the test if the content of file differs from got. With -update it writes
// got to file.
func Compare(t testing.TB, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil { //nolint:gosec // a file of the source tree, which all may read
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// ComparePart is Compare for a part of a file: the lines between one that has
// "BEGIN part" and the next that has "END part".
func ComparePart(t testing.TB, file, part, got string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begins := strings.Cut(string(text), "BEGIN "+part)
	line, rest, _ := strings.Cut(rest, "\n")
	_, after, ends := strings.Cut("\n"+rest, "END "+part)
	if !begins || !ends {
		t.Fatalf("%s has no part %s", file, part)
	}
	// The line of END begins with what makes it a comment.
	comment := before[strings.LastIndexByte(before, '\n')+1:]
	Compare(t, file, before+"BEGIN "+part+line+"\n"+got+comment+"END "+part+after)
}
