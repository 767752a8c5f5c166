package search

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/pkg/option"
)

// The table says of every option whether it takes a value as the parser has it, and
// every word that is offered for a value is taken.
func TestTableIsWhatIsParsed(t *testing.T) {
	env := Env{Now: time.Unix(1763800000, 0), Location: time.UTC, Locale: "C"}
	wants := func(err error) bool {
		return err != nil && (strings.HasPrefix(err.Error(), "Argument is required for") || strings.Contains(err.Error(), "requires either date and/or time"))
	}
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
			if got := wants(err); got != (o.Value != "" && !o.Optional) {
				t.Errorf("%s alone: %v, in the table its value is %q", name, err, o.Value)
			}
			if o.Words.List == nil {
				continue
			}
			for _, w := range o.Words.List(nil, "") {
				if strings.HasSuffix(w, "=") {
					continue
				}
				if _, err := ParseArgs([]string{name, w}, env); err != nil {
					t.Errorf("%s %s is offered: %v", name, w, err)
				}
			}
		}
	}
	for name := range seen {
		if strings.HasPrefix(name, "--") && !strings.Contains(Usage, name) {
			t.Errorf("the help has no %s", name)
		}
	}
}

func TestWordsOffered(t *testing.T) {
	for _, c := range []struct {
		before, typed string
		want          []string // among the words
		not           string
	}{
		{"-m", "USER_LO", []string{"USER_LOGIN", "USER_LOGOUT"}, "USER_AUTH"},
		{"-m", "SYSCALL,AV", []string{"SYSCALL,AVC"}, ""},
		{"-sc", "open", []string{"openat", "open"}, ""},
		{"--arch aarch64 -sc", "open", []string{"openat"}, "open"},
		{"-te", "", []string{"today", "now"}, "checkpoint"},
		{"-ts", "ch", []string{"checkpoint"}, ""},
		{"-e", "-EAC", []string{"-EACCES"}, ""},
		{"--format", "", []string{"json", "csv", "text"}, ""},
		{"--field", "sys", []string{"syscall="}, ""},
		{"--field", "success=", []string{"success=yes", "success=no"}, ""},
		{"--field", "type!=AVC", []string{"type!=AVC"}, ""},
		{"-ui", "roo", []string{"root"}, ""},
		{"", "--for", []string{"--format"}, ""},
		{"--interpret", "-s", []string{"-sc", "-sv", "-su"}, ""},
	} {
		var got []string
		for _, w := range options.Complete(strings.Fields(c.before), c.typed, option.Words{}).Words {
			text, _, _ := strings.Cut(w, "\t")
			got = append(got, text)
		}
		for _, w := range c.want {
			if !slices.Contains(got, w) {
				t.Errorf("%s %s: %v have no %s", c.before, c.typed, got, w)
			}
		}
		if slices.Contains(got, c.not) {
			t.Errorf("%s %s: %s is offered", c.before, c.typed, c.not)
		}
	}
}
