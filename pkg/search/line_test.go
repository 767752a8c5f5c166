package search

import (
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// TestLineOnTerminals says when a search shows lines: on a terminal, where nothing asks for
// another format, and never under the stock name.
func TestLineOnTerminals(t *testing.T) {
	for _, c := range []struct {
		args          string
		stock, people bool
		want          output.Format
	}{
		{"-k x", false, true, output.FormatLine}, {"-k x", false, false, output.FormatDefault}, {"-k x", true, true, output.FormatDefault},
		{"-k x --format default", false, true, output.FormatDefault}, {"-k x -r", false, true, output.FormatRaw}, {"-k x -i", false, true, output.FormatInterpret},
		{"-k x --format json", false, true, output.FormatJSON}, {"-k x --escape tty", false, true, output.FormatDefault},
		{"-k x --with-host", false, true, output.FormatDefault}, {"-k x --with-host", true, true, output.FormatDefault},
		{"-k x --color always", false, true, output.FormatLine}, {"-k x --reverse --limit 5", false, true, output.FormatLine}, {"-k x --follow", false, true, output.FormatLine},
		{"-k x --csv-rfc4180", false, true, output.FormatCSV}, {"-k x --format line", false, false, output.FormatLine}, {"-k x --format line", true, true, output.FormatLine},
		{"-k x --around 5s --milliseconds", false, true, output.FormatLine},
	} {
		o, err := ParseArgs(strings.Fields(c.args), Env{})
		if err != nil {
			t.Fatalf("%s: %v", c.args, err)
		}
		screen := o.Screen(c.stock)
		o.ShowOn(false, c.people)
		if o.Format != c.want {
			t.Errorf("%s, stock %v, terminal %v: %s, want %s", c.args, c.stock, c.people, o.Format, c.want)
		}
		if o.Format != output.FormatLine {
			continue
		}
		if !o.Query.Origin || len(o.Notes) > 0 || !c.stock && screen.Form != terminal.Styled {
			t.Errorf("%s: origin %v, notes %q, form %d", c.args, o.Query.Origin, o.Notes, screen.Form)
		}
	}
	o, err := ParseArgs([]string{"--milliseconds", "--format", "text"}, Env{})
	if err != nil || len(o.Notes) != 1 {
		t.Errorf("--milliseconds of text: %v, %q", err, o.Notes)
	}
}
