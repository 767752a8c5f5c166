package report

import (
	"bytes"
	"strconv"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/pkg/query"
)

// Groups are added up from an index, too, or where it does not say enough by whoever has the events. These counts are of the values that
// a grouper finds: it reads an event as a search does.

// groupFields returns the fields from which the report's groups can be counted; none when
// the events have to be read.
func (o *Options) groupFields() []query.Field {
	if len(reports[o.Kind].types) > 0 || len(o.Terms)+len(o.Filters) > 0 || o.Result != AnyResult || o.NoConfig || o.Change != AnyChange {
		return nil
	}
	unit, _, ok := o.Group.unit()
	by := o.Group.By
	switch {
	case !ok:
		return nil
	case len(by) == 0:
		return []query.Field{unit}
	case o.Group.Every != 0 || len(by) > 1:
		return o.combinedFields()
	case by[0].Node:
		return []query.Field{query.FieldNode}
	case by[0].Field == query.FieldType:
		return []query.Field{query.FieldShape}
	case by[0].Field.IsList():
		return []query.Field{by[0].Field, query.FieldLists}
	case by[0].Field == query.FieldSyscall && o.Interpret: // a host may call it something else
		return []query.Field{query.FieldSyscall, query.FieldCall}
	}
	fields := []query.Field{by[0].Field}
	if name, ok := nameField[by[0].Field]; ok && o.Interpret {
		fields = append(fields, name, query.FieldUnnamed)
	}
	return fields
}

// combinedFields are those of groups by several fields, or by a field and time.
func (o *Options) combinedFields() (fields []query.Field) {
	if unit, _, _ := o.Group.unit(); o.Group.Every != 0 {
		fields = append(fields, unit)
	}
	unnamed := false
	for _, by := range o.Group.By {
		if by.Node {
			fields = append(fields, query.FieldNode)
			continue
		}
		if by.Field == query.FieldSyscall && o.Interpret {
			return nil
		}
		_, named := nameField[by.Field]
		unnamed = unnamed || named && o.Interpret
		fields = append(fields, by.Field)
	}
	if unnamed {
		fields = append(fields, query.FieldUnnamed)
	}
	return append(fields, query.FieldEach)
}

// unit returns the field by which intervals are counted, and its length; false where they do not
// consist of whole ones. Without intervals the field is none.
func (g *Group) unit() (f query.Field, length time.Duration, ok bool) {
	switch {
	case g.Every%time.Hour == 0:
		return query.FieldHour, time.Hour, true
	case g.Every%time.Minute == 0:
		return query.FieldMinute, time.Minute, true
	}
	return 0, 0, false
}

// namesLogins reports whether the groups are the login users by their names, as the hosts and this machine know them.
func (o *Options) namesLogins() bool {
	by := o.Group.By
	return o.Interpret && o.Group.Every == 0 && len(by) == 1 && !by[0].Node && by[0].Field == query.FieldAUID
}

// take adds what was counted without reading. It fails when the counts do not tell which
// events are in which group, as those of an older collector, which lacks fields.
func (g *grouper) take(sum *query.Tally) bool {
	unit, length, _ := g.o.Group.unit()
	switch by := g.o.Group.By; {
	case sum.Combines():
		return g.takeEach(sum, length)
	case len(by) == 0:
		return g.takeTimes(sum, unit, length)
	case by[0].Node:
		return g.takeValues(sum, query.FieldNode) == 0
	case by[0].Field == query.FieldType:
		g.takeTypes(sum)
		return true
	case by[0].Field.IsList():
		g.takeValues(sum, by[0].Field)
		return g.takeLists(sum, by[0].Field)
	case by[0].Field == query.FieldSyscall && g.o.Interpret:
		return g.takeCalls(sum)
	case sum.Of(query.FieldLogin) != nil: // it was counted: see Options.ways
		return g.takeLogins(sum)
	default:
		if name, ok := nameField[by[0].Field]; ok && g.o.Interpret && valued(sum, name) > 0 {
			return false
		}
		absent := g.takeValues(sum, by[0].Field)
		g.without(absent)
		return absent >= 0
	}
}

// takeEach counts events by combinations, the first value of which is the time in units of length where the report has intervals.
func (g *grouper) takeEach(sum *query.Tally, length time.Duration) (whole bool) {
	whole = valued(sum, query.FieldEach) >= sum.Events // a collector that does not know them says none
	sum.Of(query.FieldEach).Each(func(key string, n int64) {
		if g.o.Group.Every == 0 {
			g.tally.addN(separator+key, uint64(n))
			return
		}
		head, rest, found := strings.Cut(key, query.EachSeparator)
		at, ok := g.interval(head, length)
		whole = whole && found && ok
		g.tally.addN(strconv.FormatInt(at, 10)+separator+rest, uint64(n))
	})
	return whole
}

// interval returns the interval in which a time lies, given in whole units of length, and false where it does not lie in one.
func (g *grouper) interval(text string, length time.Duration) (at int64, ok bool) {
	i, err := strconv.ParseInt(text, 10, 64)
	unit, every := int64(length/time.Second), int64(g.o.Group.Every/time.Second)
	at = bucket(i*unit, every, g.loc)
	return at, err == nil && at == bucket((i+1)*unit-1, every, g.loc)
}

// takeValues counts events by a field of which each has one value at most, and returns how
// many have none.
func (g *grouper) takeValues(sum *query.Tally, f query.Field) (absent int64) {
	sum.Of(f).Each(func(v string, n int64) { g.addValue("", v, n) })
	return sum.Events - valued(sum, f)
}

// takeCalls counts events by the names of their system calls. It fails where not all are known, or some have a number that no call has.
func (g *grouper) takeCalls(sum *query.Tally) bool {
	with := valued(sum, query.FieldSyscall)
	if !allSay(sum, Syscall, query.FieldCall) || with != valued(sum, query.FieldCall) {
		return false
	}
	sum.Of(query.FieldCall).Each(func(v string, n int64) {
		call, _ := query.ParseCall([]byte(v))
		g.scratch, _ = appendCallName(g.scratch[:0], &call)
		if bytes.HasPrefix(g.scratch, unknownCall) {
			g.addValue("", strconv.FormatInt(int64(call.Number), 10), n)
		} else {
			g.addValue(isName, string(g.scratch), n)
		}
	})
	g.without(sum.Events - with)
	return true
}

// takeLogins counts events by the names of their login users. It fails where the logins do not say which events have which of the names that records
// have: of what was stored before there were logins, and where a record names a login user whose number it does not have.
func (g *grouper) takeLogins(sum *query.Tally) bool {
	with := valued(sum, query.FieldLogin)
	if with != valued(sum, query.FieldAUID) {
		return false
	}
	named := map[string]int64{}
	sum.Of(query.FieldAUIDName).Each(func(v string, n int64) { named[v] += n })
	sum.Of(query.FieldLogin).Each(func(v string, n int64) {
		l, ok := query.ParseLogin([]byte(v))
		mark, value := "", strconv.FormatUint(uint64(l.ID), 10)
		if l.Told {
			mark, value = isName, string(l.Named)
			named[value] -= n
		}
		if ok {
			g.addValue(mark, value, n)
		}
	})
	g.without(sum.Events - with)
	for _, n := range named {
		if n != 0 {
			return false
		}
	}
	return true
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

// takeTimes counts events by a field that has their times in units of a length. It fails where the
// intervals do not consist of whole units: in a zone that is half an hour off, for one.
func (g *grouper) takeTimes(sum *query.Tally, f query.Field, length time.Duration) bool {
	whole := valued(sum, f) == sum.Events
	sum.Of(f).Each(func(v string, n int64) {
		at, ok := g.interval(v, length)
		whole = whole && ok
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
				g.addValue("", strconv.Itoa(int(t)), n)
				none = 0
			}
		}
		g.without(none)
	})
}

// addValue counts events that have one value, behind a mark.
func (g *grouper) addValue(mark, v string, n int64) {
	g.key = query.AppendEach(append(append(g.key[:0], separator...), mark...), v)
	g.tally.addN(string(g.key), uint64(n))
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
