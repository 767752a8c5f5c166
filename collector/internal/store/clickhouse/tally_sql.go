package clickhouse

import (
	"cmp"
	"fmt"
	"maps"
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
	// combined says that it is part of a combination, where "" is no value; listed that its values are behind a sign then.
	combined, listed bool
}

// value is what a tally counts of the text that an expression came to.
func (e *expression) value(text string) string {
	switch {
	case e.combined && text == "":
		return query.EachAbsent
	case e.listed:
		text = text[1:]
	case e.stored:
		text = valueOf(text)
	}
	if e.combined {
		return string(query.AppendEach(nil, text))
	}
	return text
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
	for _, f := range fields {
		if f == query.FieldEach || f == query.FieldUnnamed {
			continue
		}
		e, _ := single(f)
		switch {
		case f == query.FieldMinute, f == query.FieldHour:
		case several(f):
			e.combined, e.listed = true, true
			e.sql = "arrayJoin(if(empty(" + e.column + "), [''], arrayMap(v -> concat('=', v), " + e.column + ")))"
		default:
			e.sql, e.has, e.combined = e.column, "", true
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

// mostRuns is of how many runs of batches a statement names those that may be there twice.
const mostRuns = 200

// batchRun is batches of one store, from and to both within.
type batchRun struct {
	store    string
	from, to uint64
}

// repeated is what rows meet of which there may be others with the same key, among those of the query's time; "": there are none. More rows may meet it: they are
// counted with more work, and not otherwise. where narrows them to their partitions and batches.
func (a *account) repeated(q *query.Query) (condition, where string) {
	var runs []batchRun
	days := map[int32]bool{}
	for _, r := range a.again {
		if p := a.parts[r.part]; p != nil && outside(p, q) {
			continue
		}
		runs = append(runs, batchRun{r.store, r.batch, r.batch})
		days[dayNumber(r.part.Day)] = true
	}
	if len(runs) == 0 {
		return "", ""
	}
	slices.SortFunc(runs, func(a, b batchRun) int { return cmp.Or(cmp.Compare(a.store, b.store), cmp.Compare(a.from, b.from)) })
	runs = slices.Compact(runs) // it is in several parts
	joined := fewer(runs)
	var list, batches, of []string
	for _, r := range joined {
		between := fmt.Sprintf("batch >= %d AND batch <= %d", r.from, r.to)
		list, batches = append(list, fmt.Sprintf("(store = %s AND %s)", quote(r.store), between)), append(batches, "("+between+")")
	}
	if where = strings.Join(batches, " OR "); len(joined) == len(runs) { // else there are batches between, of any day
		for _, day := range slices.Sorted(maps.Keys(days)) {
			of = append(of, fmt.Sprintf("day = %d", day))
		}
		where = strings.Join(of, " OR ") + ") AND (" + where
	}
	return "(" + strings.Join(list, " OR ") + ")", "(" + where + ")"
}

// fewer puts runs of one store together, those that are nearest first, until they are no more than can be named; of more stores than that, it does what it can.
func fewer(runs []batchRun) []batchRun {
	if len(runs) <= mostRuns {
		return runs
	}
	var gaps []uint64
	for i := 1; i < len(runs); i++ {
		if runs[i].store == runs[i-1].store {
			gaps = append(gaps, runs[i].from-runs[i-1].to)
		}
	}
	slices.Sort(gaps)
	most := uint64(0) // a gap up to which runs are joined
	if n := len(runs) - mostRuns; len(gaps) > 0 {
		most = gaps[min(n, len(gaps))-1]
	}
	out := runs[:1:1]
	for _, r := range runs[1:] {
		if last := &out[len(out)-1]; last.store == r.store && r.from-last.to <= most {
			last.to = r.to
		} else {
			out = append(out, r)
		}
	}
	return out
}
