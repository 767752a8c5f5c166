package cli

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/option/manpage"
)

// parsed are the commands that read their words by a table.
func parsed() map[string]option.Table {
	return map[string]option.Table{"search": searchOptions(), "report": reportOptions(), "coverage": coverageOptions(), "last": lastOptions(), "lastlog": lastlogOptions(), "evidence": evidenceOptions()}
}

// optionsOf are the long options of a command and, with below, of those below it.
func optionsOf(cmd *cobra.Command, below bool) []string {
	cmd.InitDefaultHelpFlag()
	names := append(flagsOf(cmd), parsed()[cmd.Name()].Names()...)
	if cmd.Name() == "evidence" {
		names = append(names, "--key")
	}
	if below {
		for _, c := range cmd.Commands() {
			names = append(names, optionsOf(c, true)...)
		}
	}
	return names
}

// The help of every command names no option that there is not, and each option that the command has; and it has a page.
func TestHelpAgrees(t *testing.T) {
	root := (&program{stdio: Stdio{Out: io.Discard, Err: io.Discard}}).root()
	all := append(optionsOf(root, true), "--version", "--transport") // which is the forwarder's
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		path := cmd.CommandPath()
		_, out, errs := said(t, nil, append(strings.Fields(path), "--help")...)
		help := out + errs
		if len(help) < 100 {
			t.Errorf("%s --help says only %q", path, help)
		}
		named := manpage.Named(help)
		for _, name := range named {
			if !slices.Contains(all, name) {
				t.Errorf("%s --help names %s, which no command has", path, name)
			}
		}
		for _, o := range parsed()[cmd.Name()] {
			if cmd.Name() == "evidence" && searchOptions().Find(o.Names[0]) != nil {
				continue // it says that collector-search(8) has them
			}
			// Stock spellings that mean the same need not all be told.
			if !slices.ContainsFunc(o.Names, func(n string) bool { return strings.Contains(help, n) }) {
				t.Errorf("%s --help does not name %s", path, o.Names)
			}
		}
		for _, c := range cmd.Commands() {
			if c.Hidden || slices.Contains([]string{"help", "completion", "version"}, c.Name()) {
				continue
			}
			if cmd == root {
				if _, err := os.Stat("../../../deploy/man/collector-" + c.Name() + ".8"); err != nil {
					t.Error(err)
				}
			}
			walk(c)
		}
	}
	walk(root)
}

// The command lines of the pages' EXAMPLES are commands with options that they have.
func TestExamplesOfPages(t *testing.T) {
	pages, err := filepath.Glob("../../../deploy/man/collector*.[58]")
	if err != nil {
		t.Fatal(err)
	}
	root, seen := (&program{}).root(), 0
	for _, path := range pages {
		page, err := manpage.Read(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, words := range page.Examples {
			if words[0] != "collector" {
				continue
			}
			seen++
			cmd, _, err := root.Find(words[1:])
			if err != nil || cmd == root {
				t.Errorf("%s: %v: %v", filepath.Base(path), words, err)
				continue
			}
			for _, name := range manpage.Flags(words) {
				if !slices.Contains(optionsOf(cmd, false), name) {
					t.Errorf("%s: in the example %v is %s, which is no option", filepath.Base(path), words, name)
				}
			}
		}
	}
	if seen < 40 {
		t.Errorf("only %d examples", seen)
	}
}
