package report

import (
	"strconv"
	"time"

	"github.com/auditfleet/auditfleet/pkg/query"
)

// Groups by one field are added up from an index, too. Its counts are of the values that
// a grouper finds: it reads an event as a search does.

// groupFields returns the fields from which the report's groups can be counted; none when
// the events have to be read.
func (o *Options) groupFields() []query.Field {
	if len(reports[o.Kind].types) > 0 || len(o.Terms)+len(o.Filters) > 0 || o.Result != AnyResult || o.NoConfig || o.Change != AnyChange {
		return nil
	}
	by, every := o.Group.By, o.Group.Every
	switch {
	case len(by) == 0 && every > 0 && every%time.Hour == 0:
		return []query.Field{query.FieldHour}
	case len(by) == 0 && every > 0 && every%time.Minute == 0:
		return []query.Field{query.FieldMinute}
	case every != 0 || len(by) != 1:
		return nil
	case by[0].Node:
		return []query.Field{query.FieldNode}
	case by[0].Field == query.FieldType:
		return []query.Field{query.FieldShape}
	case by[0].Field.IsList():
		return []query.Field{by[0].Field, query.FieldLists}
	case by[0].Field == query.FieldSyscall && o.Interpret: // a host may call it something else
		return nil
	}
	fields := []query.Field{by[0].Field}
	if name, ok := nameField[by[0].Field]; ok && o.Interpret {
		fields = append(fields, name, query.FieldUnnamed)
	}
	return fields
}

// take adds what was counted without reading. It fails when the counts do not tell which
// events are in which group, as those of an older collector, which lacks fields.
func (g *grouper) take(sum *query.Tally) bool {
	switch by := g.o.Group.By; {
	case len(by) == 0 && g.o.Group.Every%time.Hour == 0:
		return g.takeTimes(sum, query.FieldHour, time.Hour)
	case len(by) == 0:
		return g.takeTimes(sum, query.FieldMinute, time.Minute)
	case by[0].Node:
		return g.takeValues(sum, query.FieldNode) == 0
	case by[0].Field == query.FieldType:
		g.takeTypes(sum)
		return true
	case by[0].Field.IsList():
		g.takeValues(sum, by[0].Field)
		return g.takeLists(sum, by[0].Field)
	default:
		if name, ok := nameField[by[0].Field]; ok && g.o.Interpret && valued(sum, name) > 0 {
			return false
		}
		absent := g.takeValues(sum, by[0].Field)
		g.without(absent)
		return absent >= 0
	}
}

// takeValues counts events by a field of which each has one value at most, and returns how
// many have none.
func (g *grouper) takeValues(sum *query.Tally, f query.Field) (absent int64) {
	sum.Of(f).Each(func(v string, n int64) { g.tally.addN(separator+v, uint64(n)) })
	return sum.Events - valued(sum, f)
}

// takeLists counts the events that have no value of a field of which they may have several. It fails
// where that is not known of all.
func (g *grouper) takeLists(sum *query.Tally, f query.Field) bool {
	known, absent := int64(0), int64(0)
	sum.Of(query.FieldLists).Each(func(v string, n int64) {
		if known += n; !query.HasList(v, f) {
			absent += n
		}
	})
	g.without(absent)
	return known == sum.Events
}

// takeTimes counts events by a field that has their times in a unit. It fails where the
// intervals do not consist of whole units: in a zone that is half an hour off, for one.
func (g *grouper) takeTimes(sum *query.Tally, f query.Field, unit time.Duration) bool {
	whole := valued(sum, f) == sum.Events
	length, every := int64(unit/time.Second), int64(g.o.Group.Every/time.Second)
	sum.Of(f).Each(func(v string, n int64) {
		i, err := strconv.ParseInt(v, 10, 64)
		at := bucket(i*length, every, g.loc)
		whole = whole && err == nil && at == bucket((i+1)*length-1, every, g.loc)
		g.tally.addN(strconv.FormatInt(at, 10), uint64(n))
	})
	return whole
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

// valued is how many events have a value of a field of which each has at most one.
func valued(sum *query.Tally, f query.Field) (events int64) {
	sum.Of(f).Each(func(_ string, n int64) { events += n })
	return events
}
