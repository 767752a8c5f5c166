package clickhouse

import (
	"fmt"
	"slices"
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
	each, named := slices.Contains(fields, query.FieldEach), slices.Contains(fields, query.FieldUnnamed)
	for i, f := range fields {
		if f == query.FieldEach || f == query.FieldUnnamed || f == query.FieldOdd && !each {
			continue // whoever has a value is not counted
		}
		if f.IsOther() && named && apartOf(f) == apartNamed && !each {
			continue // likewise
		}
		if _, ok := single(f); !ok || each && slices.Contains(fields[:i], f) {
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
	all := slices.Concat(c.where, c.some)
	if and != "" {
		all = append(all, and)
	}
	where := strings.Join(all, " AND ")
	table := c.c.address.Database + ".events WHERE " + where
	if c.repeated == "" {
		return " FROM " + table
	}
	slices.Sort(columns)
	columns = slices.Compact(columns)
	needed := strings.Join(columns, ", ")
	for _, k := range strings.Split(key, ", ") {
		if !slices.Contains(columns, k) {
			columns = append(columns, k)
		}
	}
	return fmt.Sprintf(" FROM (SELECT %s FROM %s AND NOT %s UNION ALL SELECT %s FROM (SELECT %s FROM %s AND %s LIMIT 1 BY %s))",
		needed, table, c.repeated, needed, strings.Join(columns, ", "), table, c.repeated, key)
}

// repeated is what rows meet of which there may be others with the same key, among those of the query's time; "": there are none. ok is false
// where they are too many to be named.
func (a *account) repeated(q *query.Query) (condition string, ok bool) {
	var list []string
	for _, r := range a.again {
		if p := a.parts[r.part]; p != nil && outside(p, q) {
			continue
		}
		list = append(list, fmt.Sprintf("(%s, %d)", quote(r.store), r.batch))
	}
	if len(list) == 0 {
		return "", true
	}
	return "(store, batch) IN (" + strings.Join(list, ", ") + ")", len(list) <= maxList
}
