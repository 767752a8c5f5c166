package search

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/nearest"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// fieldName is what the name of a field can be made of; * alone is any.
var fieldName = regexp.MustCompile(`^([A-Za-z0-9_][A-Za-z0-9_.:-]*(\[[0-9]+\])?|\*)$`)

// argument is a field of a program's arguments: a12, a12[3], a12_len.
var argument = regexp.MustCompile(`^a[0-9]+(\[[0-9]+\]|_len)?$`)

// known notes a field's name that is none of those known. It may be in a record all the
// same, so it is said only where nothing is found, or where the condition is that it is
// not there.
func (p *parser) known(name string, not bool) {
	names := tables.FieldNames()
	if _, ok := query.FieldNamed(name); ok || p.env.Stock || name == "*" || slices.Contains(names, name) || argument.MatchString(name) || strings.ToUpper(name) == name {
		return
	}
	names = append(names, slices.Collect(maps.Keys(fieldOptions))...)
	names = append(names, "host", "file", "terminal")
	slices.Sort(names)
	note := fmt.Sprintf("NOTE - no field is known by the name %s%s", name, nearest.Hint(name, slices.Compact(names)))
	if not {
		p.o.Notes = append(p.o.Notes, note)
		return
	}
	p.o.NoteIfNothing(note)
}
