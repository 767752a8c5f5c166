package search

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
)

// TestKinds checks that KINDS.md has every kind, and that the tests that it names exist.
func TestKinds(t *testing.T) {
	b, err := os.ReadFile("KINDS.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	sources := map[string]string{}
	for line := range strings.Lines(string(b)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if len(cells) != 3 {
			continue
		}
		number, _, _ := strings.Cut(strings.TrimSpace(cells[0]), " ")
		n, err := strconv.Atoi(number)
		if err != nil {
			continue // the heading
		}
		seen[n] = true
		folder, tests := strings.TrimSpace(cells[1]), strings.TrimSpace(cells[2])
		if tests == "–" {
			continue
		}
		if sources[folder] == "" {
			sources[folder] = testsOf(t, folder)
		}
		for _, name := range strings.Split(tests, ", ") {
			if !strings.Contains(sources[folder], "\nfunc "+name+"(") {
				t.Errorf("kind %d: %s has no test %s", n, folder, name)
			}
		}
	}
	for n := 1; n <= 19; n++ {
		if !seen[n] {
			t.Errorf("KINDS.md has no kind %d", n)
		}
	}
}

// testsOf is the text of the tests of a folder.
func testsOf(t *testing.T, folder string) string {
	t.Helper()
	paths, err := filepath.Glob(need.Source(t, folder+"/*_test.go"))
	if err != nil || len(paths) == 0 {
		t.Errorf("%s has no tests (%v)", folder, err)
	}
	var all strings.Builder
	for _, path := range paths {
		all.WriteString(logText(t, path))
	}
	return all.String()
}
