// Package manpage reads the options, keys and examples of a manual page (mdoc, as in
// deploy/man), so that tests can compare them with the program's. Only tests import it.
package manpage

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// Page is a manual page.
type Page struct {
	Options  map[string]bool            // spelled with their dashes, of all lists of options
	Keys     map[string]map[string]bool // by section
	Sections []string
	Examples [][]string // words of each command line in EXAMPLES
}

// Read reads a page.
func Read(path string) (*Page, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	p := &Page{Options: map[string]bool{}, Keys: map[string]map[string]bool{}}
	section := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		switch words := strings.Fields(line); {
		case strings.HasPrefix(line, ".Sh "):
			section = strings.Join(words[1:], " ")
			p.Sections = append(p.Sections, section)
		case strings.HasPrefix(line, ".It Fl "):
			for i, w := range words {
				if w == "Fl" {
					p.Options["-"+words[i+1]] = true
				}
			}
		case strings.HasPrefix(line, ".It Cm ") && section != "DESCRIPTION":
			if p.Keys[section] == nil {
				p.Keys[section] = map[string]bool{}
			}
			p.Keys[section][words[2]] = true
		case section == "EXAMPLES" && (strings.HasPrefix(line, "# ") || strings.HasPrefix(line, "$ ")):
			p.Examples = append(p.Examples, words[1:])
		}
	}
	return p, nil
}

// Compare lists what only the page has, and what only the program has.
func Compare(what string, page map[string]bool, real []string) (wrong []string) {
	for _, name := range real {
		if !page[name] {
			wrong = append(wrong, fmt.Sprintf("%s %s is not in the page", what, name))
		}
	}
	for name := range page {
		if !slices.Contains(real, name) {
			wrong = append(wrong, fmt.Sprintf("the page has %s %s, which there is not", what, name))
		}
	}
	slices.Sort(wrong)
	return wrong
}

// Wanted are the sections that a page of section 8 must have.
var Wanted = []string{"NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "EXAMPLES", "SEE ALSO"}

var longOption = regexp.MustCompile(`(?m)(?:^|[\s\[(,|"])(--[a-z][a-z0-9_-]+)`)

// Named returns the long options that a help text names.
func Named(help string) (names []string) {
	for _, m := range longOption.FindAllStringSubmatch(help, -1) {
		names = append(names, m[1])
	}
	return names
}

// Flags returns the options of one line of a page's EXAMPLES that follow its program, up to where another
// program's begin.
func Flags(words []string) (names []string) {
	for _, w := range words[1:] {
		if w == "|" || w == "--" || strings.HasSuffix(w, ";") || strings.HasPrefix(w, "#") {
			return names
		}
		if name, _, _ := strings.Cut(w, "="); longOption.MatchString(name) {
			names = append(names, name)
		}
	}
	return names
}
