package search

import (
	"maps"
	"slices"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/nearest"
	"github.com/auditfleet/auditfleet/pkg/option"
)

// NodesOf returns the hosts that a word names: itself, and, where there are commas in it,
// each that is between them.
func NodesOf(word string) []string {
	nodes := []string{word}
	if strings.Contains(word, ",") {
		for part := range strings.SplitSeq(word, ",") {
			if part != "" {
				nodes = append(nodes, part)
			}
		}
	}
	return nodes
}

// NoteIfNothing adds notes that are printed when nothing is found.
func (o *Options) NoteIfNothing(notes ...string) { o.nothing = append(o.nothing, notes...) }

// OptionHint returns what may have been meant by a word that is no option of a table, to
// be appended to the complaint: the options with the nearest names, or that words belong
// behind options.
func (e Env) OptionHint(word string, table option.Table) string {
	switch {
	case e.Stock || word == "":
		return ""
	case !strings.HasPrefix(word, "-"):
		return "\n  a word belongs behind an option that says what it is, such as -k, -c, -x or -f; quote one that has blanks"
	case len(word) < 4:
		return ""
	}
	var names []string
	for _, name := range slices.Concat(table.Names(), slices.Sorted(maps.Keys(e.Extra))) {
		if strings.HasPrefix(name, "--") {
			names = append(names, name)
		}
	}
	return nearest.Hint(word, names)
}
