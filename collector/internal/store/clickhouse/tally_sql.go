package clickhouse

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/query"
)

// expression is what events are counted by, and the column that it is of.
type expression struct {
	sql    string
	column string
	stored bool   // as stored makes it
	has    string // what an event meets that has it; "": any
}

// single is what a field's values are; false where no event that is counted has one.
func single(f query.Field) (e expression, ok bool) {
	switch {
	case f == query.FieldNode:
		return expression{sql: "node", column: "node"}, true
	case f == query.FieldMinute, f == query.FieldHour:
		return expression{sql: fmt.Sprintf("toString(intDiv(ts_ms, %d))", query.UnitMs(f)), column: "ts_ms"}, true
	case f.IsOther():
		name := otherName(f)
		return expression{sql: fmt.Sprintf("arrayJoin(arrayMap(v -> substring(v, %d), arrayFilter(v -> startsWith(v, %s), %s)))", len(name)+1, quote(name), others), column: others}, true
	case !hasColumn(f):
		return e, false
	case several(f):
		return expression{sql: "arrayJoin(" + column(f) + ")", column: column(f)}, true
	}
	return expression{sql: column(f), column: column(f), stored: true, has: column(f) + " != ''"}, true
}

// combination is what the combinations of fields are made of.
func combination(fields []query.Field) (list []expression) {
	absent := quote(query.EachAbsent)
	for _, f := range fields {
		if f == query.FieldEach || f == query.FieldUnnamed {
			continue
		}
		e, _ := single(f)
		switch {
		case f == query.FieldMinute, f == query.FieldHour:
		case several(f):
			e.sql = "arrayJoin(if(empty(" + e.column + "), [" + absent + "], " + e.column + "))"
		default:
			e.sql, e.has = "if("+e.column+" = '', "+absent+", "+e.column+")", ""
		}
		list = append(list, e)
	}
	return list
}

// inColumns says whether columns tell the values of fields, and all combinations of these.
func inColumns(fields []query.Field) bool {
	each := slices.Contains(fields, query.FieldEach)
	for i, f := range fields {
		if f == query.FieldEach || f == query.FieldUnnamed || f == query.FieldOdd && !each {
			continue // whoever has a value is not counted
		}
		if _, ok := single(f); !ok || each && (f.IsOther() || slices.Contains(fields[:i], f)) {
			return false
		}
	}
	return true
}

// grouped is how many events there are of each value.
func (c *counting) grouped(of []expression) string {
	var show, by, columns []string
	where := ""
	for i, e := range of {
		show, by, columns = append(show, fmt.Sprintf("%s AS g%d", e.sql, i)), append(by, fmt.Sprintf("g%d", i)), append(columns, e.column)
		if e.has != "" {
			where = e.has
		}
	}
	return "SELECT " + strings.Join(show, ", ") + ", count()" + c.from(where, columns...) + " GROUP BY " + strings.Join(by, ", ")
}

// from is where rows are read that are counted, of which the columns are needed, and a condition that they meet, too, unless it is empty. Of rows
// with the same key it is one.
func (c *counting) from(and string, columns ...string) string {
	narrow := slices.Concat(c.narrow, c.some)
	if and != "" {
		narrow = append(narrow, and)
	}
	if c.repeated == "" {
		return rowsOf(c.table(), narrow, c.seen)
	}
	slices.Sort(columns)
	columns = slices.Compact(columns)
	needed := strings.Join(columns, ", ")
	for _, k := range strings.Split(key, ", ") {
		if !slices.Contains(columns, k) {
			columns = append(columns, k)
		}
	}
	once, again := rowsOf(c.table(), narrow, append(slices.Clip(c.seen), "NOT "+c.repeated)), rowsOf(c.table(), append(narrow, c.where), append(slices.Clip(c.seen), c.repeated))
	return fmt.Sprintf(" FROM (SELECT %s%s UNION ALL SELECT %s FROM (SELECT %s%s LIMIT 1 BY %s))", needed, once, needed, strings.Join(columns, ", "), again, key)
}

// repeated is what rows meet of which there may be others with the same key, among those of the query's time; "": there are none. where narrows them
// to their partitions. ok is false where they are too many to be named.
func (a *account) repeated(q *query.Query) (condition, where string, ok bool) {
	var list, batches []string
	days, said := map[int32]bool{}, map[repeated]bool{}
	for _, r := range a.again {
		once := r
		if once.part.N = 0; said[once] { // it is in several parts
			continue
		}
		if p := a.parts[r.part]; p != nil && outside(p, q) {
			continue
		}
		said[once] = true
		list, batches = append(list, fmt.Sprintf("(%s, %d)", quote(r.store), r.batch)), append(batches, strconv.FormatUint(r.batch, 10))
		days[dayNumber(r.part.Day)] = true
	}
	if len(list) == 0 {
		return "", "", true
	}
	var of []string
	for _, day := range slices.Sorted(maps.Keys(days)) {
		of = append(of, fmt.Sprintf("day = %d", day))
	}
	return "(store, batch) IN (" + strings.Join(list, ", ") + ")", "(" + strings.Join(of, " OR ") + ") AND batch IN (" + strings.Join(batches, ", ") + ")", len(list) <= maxList
}
