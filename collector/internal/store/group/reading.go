package group

import (
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// The dictionaries of a group say what was read of its events when it was written. The
// matcher reads them as this program does. Where that is more, the dictionaries of older
// groups must not hide an event, and its counts are not taken from them.

// readVersion is the first version with all values that this program's Extractor.Index has.
// A change of what it reads needs another one, and its part in this file.
const readVersion = 4

// everywhereVersion is the first version that has the values of every record and whole
// names, and in which nothing is missing of the types in readSince.
const everywhereVersion = 3

// readSince are the record types of which everywhereVersion was the first to have the
// fields, as a dictionary of types has them: URINGOP and DM_CTRL.
var readSince = []string{"1336", "1338"}

// decisions are the record types of which readVersion was the first to say when their
// decision is the event's result: AVC and USER_AVC.
var decisions = []string{"1107", "1400"}

// overlooks says whether an event of the group may meet c, whatever its dictionaries say.
func (g *Group) overlooks(c *store.Condition) bool {
	if g.version >= everywhereVersion {
		return false
	}
	for _, f := range c.Fields {
		switch {
		case f.IsOther():
			return true
		case f >= query.FieldAUIDName && f <= query.FieldEGIDName:
			// A name that daemons write in hex, or with a space in it, was not read whole.
			if c.Exact == nil || slices.ContainsFunc(c.Exact, oddName) {
				return true
			}
		}
	}
	return false
}

func oddName(name string) bool {
	return slices.ContainsFunc([]byte(name), func(c byte) bool { return c <= ' ' || c > '~' || c == '"' })
}

// addReadSince adds the events with a record of which less was read, or something else, in
// a condition's fields.
func (g *Group) addReadSince(set bitset, fields []query.Field) error {
	if len(fields) == 1 && fields[0] == query.FieldType {
		return nil
	}
	var types []string
	if g.version < everywhereVersion {
		types = append(types, readSince...)
	}
	if g.version < readVersion && slices.ContainsFunc(fields, ofResult) {
		types = append(types, decisions...)
	}
	if len(types) == 0 {
		return nil
	}
	d, err := g.dict(query.FieldType)
	if d == nil || err != nil {
		return err
	}
	return d.matching(&store.Condition{Exact: types}, nil, func(x *dict, i int) error { return g.addValue(set, nil, x, i) })
}

// addStrays adds the events with a value in d that was taken as it stands, for it has a quote
// or a bracket behind its hex. This program reads the hex.
func (g *Group) addStrays(set bitset, d *values) error {
	return d.each(func(x *dict, i int) error {
		if !record.IsStray(x.value(i)) {
			return nil
		}
		return g.addValue(set, nil, x, i)
	})
}

// ofResult says whether a field has an event's result in it.
func ofResult(f query.Field) bool {
	return f == query.FieldSuccess || f == query.FieldShape
}

// countsAll says whether the dictionaries' counts of some fields are those of what this
// program reads.
func (g *Group) countsAll(fields []query.Field) (bool, error) {
	for _, f := range fields { // one that is not searched by, and that the group is older than
		if int(f) >= query.NumFields && addedField(f) && !g.has(f) {
			return false, nil
		}
	}
	if !g.tallies() || g.version >= readVersion {
		return g.tallies(), nil
	}
	if g.version < everywhereVersion && slices.Contains(fields, query.FieldUnnamed) {
		return false, nil // it has not all names
	}
	set := newBitset(int(g.Summary.Events))
	if err := g.addReadSince(set, fields); err != nil || set.any() {
		return false, err
	}
	for _, f := range fields {
		if f == query.FieldShape {
			continue
		}
		d, err := g.dict(f)
		if err == nil && d != nil {
			err = g.addStrays(set, d)
		}
		if err == nil && d == nil && addedField(f) {
			return false, nil
		}
		if err != nil || set.any() {
			return false, err
		}
	}
	return true, nil
}
