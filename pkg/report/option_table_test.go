package report

import (
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/pkg/search"
)

// The table says of every option whether it takes a value as the parser has it,
// every word that is offered is taken, and the help has all of it.
func TestTableIsWhatIsParsed(t *testing.T) {
	env := search.Env{Now: time.Unix(1763800000, 0), Location: time.UTC, Locale: "C"}
	seen := map[string]bool{}
	for _, o := range OptionTable() {
		if o.Brief == "" {
			t.Errorf("%v: nothing says what it is for", o.Names)
		}
		for _, name := range o.Names {
			if seen[name] {
				t.Errorf("%s is there twice", name)
			}
			seen[name] = true
			_, err := ParseArgs([]string{name}, env)
			wants := err != nil && (strings.HasPrefix(err.Error(), "Argument is required for") || strings.Contains(err.Error(), "requires either date and/or time"))
			if wants != (o.Value != "") {
				t.Errorf("%s alone: %v, in the table its value is %q", name, err, o.Value)
			}
			if o.Words.List == nil {
				continue
			}
			for _, w := range o.Words.List(nil, "") {
				if strings.HasSuffix(w, "=") {
					continue // a value is to come, which the search knows
				}
				args := []string{name, w}
				if name == "--format" || name == "--top" {
					args = append(args, "--by", "key")
				}
				if _, err := ParseArgs(args, env); err != nil {
					t.Errorf("%s %s is offered: %v", name, w, err)
				}
			}
		}
	}
	for name := range seen {
		if !strings.Contains(Usage, name) {
			t.Errorf("the help has no %s", name)
		}
	}
	for _, word := range strings.FieldsFunc(Usage, func(c rune) bool { return strings.ContainsRune(" ,\n()", c) }) {
		if name := strings.TrimRight(word, ":;"); strings.HasPrefix(name, "-") && len(name) > 1 && !seen[name] {
			t.Errorf("the help names %q, which is no option", name)
		}
	}
	for _, f := range FieldNames() {
		if !strings.Contains(Usage, f) {
			t.Errorf("the help has no field %s", f)
		}
	}
}
