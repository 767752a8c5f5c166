package rules

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/internal/golden"
)

// TestMistakes shows what is said to typical mistakes: testdata/mistakes/NAME.txt
// holds the line, then what is printed. -update writes them again.
func TestMistakes(t *testing.T) {
	files, err := filepath.Glob("testdata/mistakes/*.txt")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d files, want at least 30 (%v)", len(files), err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			line, _, _ := strings.Cut(string(data), "\n")
			golden.Compare(t, path, line+"\n"+sayLine(line))
		})
	}
}

// sayLine is what a user sees for a line of a rule file.
func sayLine(line string) string {
	var b strings.Builder
	words := SplitLine(line)
	args := Args(words)
	c, err := ParseArgs(args, testEnv())
	var e *Error
	switch {
	case errors.As(err, &e):
		for _, w := range e.Warnings {
			fmt.Fprintf(&b, "%s\n", w.Msg)
		}
		fmt.Fprintf(&b, "column %d: %s\n%s", e.Column(words), e.Msg, e.Detail(args))
	case err != nil:
		fmt.Fprintf(&b, "not an *Error: %v\n", err)
	default:
		for _, w := range c.Warnings {
			fmt.Fprintf(&b, "%s\n", w.Msg)
		}
		if r := c.Rule(); r != nil {
			if why := r.Refusal(); why != "" {
				fmt.Fprintf(&b, "Error sending add rule data request (Invalid argument)\n  %s\n", why)
			} else {
				fmt.Fprintf(&b, "accepted: %s\n", r.Text(testEnv(), TextOptions{}))
			}
		}
	}
	return b.String()
}
