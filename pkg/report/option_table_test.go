package report

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/search"
)

// The tables, search's and ours, say of every option whether it takes a value as the
// parser has it, every word that is offered is taken, and the help has it all.
func TestTableIsWhatIsParsed(t *testing.T) {
	env := search.Env{Now: time.Unix(1763800000, 0), Location: time.UTC, Locale: "C"}
	checkTable(t, search.OptionTable(), func(args ...string) error {
		_, err := search.ParseArgs(args, env)
		return err
	})
	for _, name := range search.OptionTable().Names() {
		if strings.HasPrefix(name, "--") && !strings.Contains(search.Usage, name) {
			t.Errorf("search's help has no %s", name)
		}
	}
	checkTable(t, OptionTable(), func(args ...string) error {
		if args[0] == "--format" || args[0] == "--top" {
			args = append(args, "--by", "key")
		}
		_, err := ParseArgs(args, env)
		return err
	})
	names := OptionTable().Names()
	for _, name := range names {
		if !strings.Contains(Usage, name) {
			t.Errorf("the help has no %s", name)
		}
	}
	for _, word := range strings.FieldsFunc(Usage, func(c rune) bool { return strings.ContainsRune(" ,\n()", c) }) {
		if name := strings.TrimRight(word, ":;"); strings.HasPrefix(name, "-") && len(name) > 1 && (name[1] < '0' || name[1] > '9') && !slices.Contains(names, name) {
			t.Errorf("the help names %q, which is no option", name)
		}
	}
	for _, f := range fieldNames() {
		if !strings.Contains(Usage, f) {
			t.Errorf("the help has no field %s", f)
		}
	}
}

func checkTable(t *testing.T, table option.Table, parse func(args ...string) error) {
	t.Helper()
	seen := map[string]bool{}
	for _, o := range table {
		if o.Brief == "" {
			t.Errorf("%v: nothing says what it is for", o.Names)
		}
		for _, name := range o.Names {
			if seen[name] {
				t.Errorf("%s is there twice", name)
			}
			seen[name] = true
			err := parse(name)
			lacks := err != nil && (strings.HasPrefix(err.Error(), "Argument is required for") || strings.Contains(err.Error(), "requires either date and/or time"))
			if lacks != (o.Value != "" && !o.Optional) {
				t.Errorf("%s alone: %v, in the table its value is %q", name, err, o.Value)
			}
			if o.Words.List == nil {
				continue
			}
			for _, w := range o.Words.List(nil, "") {
				if strings.HasSuffix(w, "=") {
					continue // a value is to come, which the search knows
				}
				if err := parse(name, w); err != nil {
					t.Errorf("%s %s is offered: %v", name, w, err)
				}
			}
		}
	}
}
