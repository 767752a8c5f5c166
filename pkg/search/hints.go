package search

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/logscan"
	"github.com/auditfleet/auditfleet/pkg/nearest"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/query"
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

// UnknownNodes returns a note for each host wanted that none of known is.
func UnknownNodes(wanted, known []string) (notes []string) {
	for _, want := range wanted {
		if strings.Contains(want, ",") || slices.ContainsFunc(known, func(name string) bool { return query.NodeIs(want, name) }) {
			continue
		}
		what := "no record is of a host called " + want
		if query.IsPattern(want) {
			what = "no record is of a host like " + want
		}
		notes = append(notes, "NOTE - "+what+nearest.Hint(want, known))
	}
	return slices.Compact(notes)
}

// NoteIfNothing adds notes that are printed when nothing is found.
func (o *Options) NoteIfNothing(notes ...string) { o.nothing = append(o.nothing, notes...) }

// mostNodes is how many hosts of a log are looked at for the one that was meant.
const mostNodes = 10_000

// noteNodes finds out whether a log, in which nothing was found, has the hosts wanted. It
// reads it again until it has seen them. A pipe cannot be read again.
func (o *Options) noteNodes(ctx context.Context, in logscan.Input) {
	if o.ErrorCode == 0 || len(o.Query.Nodes) == 0 || ctx.Err() != nil {
		return
	}
	if paths, err := in.Files(); err != nil || slices.Contains(paths, logscan.Stdin) {
		return
	}
	in.Notes = io.Discard
	src := &logscan.Source{Input: in, EOETimeout: o.EOETimeout}
	var known []string
	seen := map[string]bool{}
	missing := slices.DeleteFunc(slices.Clone(o.Query.Nodes), func(want string) bool { return strings.Contains(want, ",") })
	err := src.Scan(ctx, &query.Query{}, func(ev *event.Event) error {
		if ev.Node == nil || seen[string(ev.Node)] {
			return nil
		}
		node := string(ev.Node)
		seen[node], known = true, append(known, node)
		missing = slices.DeleteFunc(missing, func(want string) bool { return query.NodeIs(want, node) })
		if len(missing) == 0 || len(known) == mostNodes {
			return query.ErrStop
		}
		return nil
	})
	if err := errors.Join(err, src.Close()); err == nil {
		o.NoteIfNothing(UnknownNodes(missing, known)...)
	}
}

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
