package cli

import (
	"os"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/report"
	"github.com/auditfleet/auditfleet/pkg/search"
)

// TestReadmeCommands reads the searches and reports that README.md shows.
func TestReadmeCommands(t *testing.T) {
	text, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	env := search.Env{Strangers: true, Extra: map[string]bool{"--store": true, "--api": true}}
	seen := map[string]int{}
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), ";")
		words := strings.Fields(line)
		if len(words) < 3 || words[0] != "$" || words[1] != "collector" {
			continue
		}
		switch seen[words[2]]++; words[2] {
		case "search":
			_, err = search.ParseArgs(words[3:], env)
		case "report":
			_, err = report.ParseArgs(words[3:], env)
		default:
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	if seen["search"] < 10 || seen["report"] < 4 {
		t.Errorf("found only %v", seen)
	}
}
