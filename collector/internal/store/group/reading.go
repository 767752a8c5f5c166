package group

import (
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// The dictionaries of a group say what was read of its events when it was written. The
// matcher reads them as this program does. Where that is more, the dictionaries of older
// groups must not hide an event, and its counts are not taken from them.

// readVersion is the first version with all values that this program's Extractor.Index has.
// A change of what it reads needs another one, and its part in this file.
const readVersion = 3

// readSince are the record types of which version 3 was the first to have the fields, as a
// dictionary of types has them: URINGOP and DM_CTRL.
var readSince = []string{"1336", "1338"}

// overlooks says whether an event of a group from before readVersion may meet c, whatever
// its dictionaries say.
func overlooks(c *store.Condition) bool {
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

// addReadSince adds the events with a record of which less was read.
func (g *Group) addReadSince(set bitset, c *store.Condition) error {
	if len(c.Fields) == 1 && c.Fields[0] == query.FieldType {
		return nil
	}
	d, err := g.dict(query.FieldType)
	if d == nil || err != nil {
		return err
	}
	return d.matching(&store.Condition{Exact: readSince}, func(i int) error {
		p, err := d.postings(i)
		if err != nil {
			return err
		}
		return g.addPostings(set, p)
	})
}

// countsAll says whether the dictionaries' counts are those of what this program reads.
func (g *Group) countsAll() (bool, error) {
	if !g.tallies() || g.version >= readVersion {
		return g.tallies(), nil
	}
	set := newBitset(int(g.Summary.Events))
	err := g.addReadSince(set, &store.Condition{})
	return !set.any(), err
}
