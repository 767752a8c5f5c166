package cli

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/option/manpage"
)

// The help of every command names no option that its page, which is compared with the program, does not have; nor do
// the command lines of the pages' EXAMPLES.
func TestHelpAgrees(t *testing.T) {
	pages, err := filepath.Glob("../../../deploy/man/forwarder-*.8")
	if err != nil || len(pages) < 12 {
		t.Fatal(err, pages)
	}
	options := map[string]map[string]bool{}
	var examples [][]string
	for _, path := range pages {
		page, err := manpage.Read(path)
		if err != nil {
			t.Fatal(err)
		}
		options[strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "forwarder-"), ".8")] = page.Options
		examples = append(examples, page.Examples...)
	}
	others := map[string]bool{"--raw": true, "--checkpoint": true, "--key": true} // of search and of collector verify, which help speaks of
	has := func(command, name string) bool { return options[command][name] || options["run"][name] }
	for command := range options {
		var out, errs bytes.Buffer
		Run(t.Context(), []string{"forwarder", command, "--help"}, Stdio{Out: &out, Err: &errs}, "v-test")
		help := out.String() + errs.String()
		if len(help) < 100 {
			t.Errorf("%s --help says only %q", command, help)
		}
		for _, name := range manpage.Named(help) {
			if !has(command, name) && !others[name] {
				t.Errorf("%s --help names %s, which the page does not have", command, name)
			}
		}
	}
	seen := 0
	for _, words := range examples {
		if words[0] != "forwarder" || len(words) < 2 {
			continue
		}
		command := words[1]
		if options[command] == nil {
			command = "run"
		}
		for _, name := range manpage.Flags(words) {
			if seen++; !has(command, name) {
				t.Errorf("in the example %v is %s, which is no option", words, name)
			}
		}
	}
	if seen < 10 {
		t.Errorf("only %d options in examples", seen)
	}
}
