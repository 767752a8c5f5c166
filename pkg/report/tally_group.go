package report

import (
	"strconv"

	"github.com/auditfleet/auditfleet/pkg/query"
)

// Groups by one field are added up from an index, too. Its counts are of the values that
// a grouper finds: it reads an event as a search does.

// lists are the fields of which an event may have several values. How many events have none
// cannot be told from the counts of these.
const lists = 1<<query.FieldKey | 1<<query.FieldFile | 1<<query.FieldSubject | 1<<query.FieldObject

// groupFields returns the fields from which the report's groups can be counted; none when
// the events have to be read.
func (o *Options) groupFields() []query.Field {
	if o.Group.Every != 0 || len(o.Group.By) != 1 || len(reports[o.Kind].types) > 0 || len(o.Terms)+len(o.Filters) > 0 ||
		o.Result != AnyResult || o.NoConfig || o.Change != AnyChange {
		return nil
	}
	by := o.Group.By[0]
	switch {
	case by.Node:
		return nil
	case by.Field == query.FieldType:
		return []query.Field{query.FieldShape}
	case query.FieldSet(lists).Has(by.Field), by.Field == query.FieldSyscall && o.Interpret: // a host may call it something else
		return nil
	}
	fields := []query.Field{by.Field}
	if name, ok := nameField[by.Field]; ok && o.Interpret {
		fields = append(fields, name)
	}
	return fields
}

// take adds what was counted without reading. It fails when the counts do not tell which
// events have which value.
func (g *grouper) take(sum *query.Tally) bool {
	f := g.o.Group.By[0].Field
	if f == query.FieldType {
		g.takeTypes(sum)
		return true
	}
	mark := ""
	if name, ok := nameField[f]; ok && g.o.Interpret {
		switch named(sum, name) {
		case 0:
		case sum.Events: // no event is called by its number
			f, mark = name, isName
		default: // which of them have which number is not known
			return false
		}
	}
	absent := sum.Events
	sum.Of(f).Each(func(v string, n int64) {
		g.tally.addN(separator+mark+v, uint64(n))
		absent -= n
	})
	g.without(absent)
	return absent >= 0
}

// takeTypes counts an event by each of its types.
func (g *grouper) takeTypes(sum *query.Tally) {
	sum.Of(query.FieldShape).Each(func(v string, n int64) {
		shape, _ := query.ParseShape([]byte(v))
		none := n
		for _, t := range shape.Types {
			if t != 0 {
				g.tally.addN(separator+strconv.Itoa(int(t)), uint64(n))
				none = 0
			}
		}
		g.without(none)
	})
}

// without counts events that do not have the field.
func (g *grouper) without(n int64) {
	if n > 0 {
		g.tally.addN(separator+absentValue, uint64(n))
	}
}

// named is how many events have a value of a field of which each has at most one.
func named(sum *query.Tally, f query.Field) (events int64) {
	sum.Of(f).Each(func(_ string, n int64) { events += n })
	return events
}
