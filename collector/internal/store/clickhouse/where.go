package clickhouse

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// maxList is the longest list of values that is put into a statement; a longer one is left to the matcher.
const maxList = 2000

// where returns what rows must meet that may match a query. Every event that matches meets it.
func where(q *query.Query) []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if q.StartMs != 0 {
		add("ts_ms >= %d", q.StartMs)
	}
	if q.EndMs != 0 {
		add("ts_ms <= %d", q.EndMs)
	}
	if q.HasSerial {
		add("serial = %d", q.Serial)
	}
	if sql := nodes(q.Nodes); sql != "" {
		out = append(out, sql)
	}
	for _, c := range store.ConditionsOf(q) {
		if sql := condition(&c); sql != "" {
			out = append(out, sql)
		}
	}
	return out
}

// nodes says of which hosts rows are; "" of any.
func nodes(want []string) string {
	if len(want) == 0 || len(want) > maxList {
		return ""
	}
	var exact, any []string
	for _, w := range want {
		exact = append(exact, w)
		if !query.IsPattern(w) {
			continue
		}
		sql := like(w)
		if sql == "" {
			return ""
		}
		any = append(any, sql)
	}
	return "(" + strings.Join(append(any, "node IN ("+quoteAll(exact)+")"), " OR ") + ")"
}

// like is what a name meets that is like a pattern: it begins as that does, or has its longest text; "" where the pattern has none. LIKE
// would not do: it is for characters, and passes over names that are no UTF-8.
func like(pattern string) string {
	pieces := strings.FieldsFunc(pattern, func(r rune) bool { return r == '*' || r == '?' })
	if len(pieces) == 0 {
		return ""
	}
	if !strings.HasPrefix(pattern, pieces[0]) {
		return "position(node, " + quote(slices.MaxFunc(pieces, func(a, b string) int { return cmp.Compare(len(a), len(b)) })) + ") > 0"
	}
	from, to := "node >= "+quote(pieces[0]), []byte(pieces[0])
	for ; len(to) > 0; to = to[:len(to)-1] {
		if last := &to[len(to)-1]; *last < 0xff {
			*last++
			return "(" + from + " AND node < " + quote(string(to)) + ")"
		}
	}
	return from
}

// condition is a condition as SQL; "" where the columns cannot narrow it.
func condition(c *store.Condition) string {
	var any []string
	for _, f := range c.Fields {
		switch {
		case len(c.Exact) > maxList:
			return ""
		case f.IsOther():
			any = append(any, ofOthers(f, c))
		case !hasColumn(f):
			return ""
		case several(f):
			any = append(any, ofList(column(f), c))
		default:
			any = append(any, ofOne(column(f), c))
		}
	}
	if len(any) == 0 {
		return ""
	}
	return "(" + strings.Join(any, " OR ") + ")"
}

// ofList is what a column meets that is an array of values.
func ofList(col string, c *store.Condition) string {
	switch {
	case c.Exact != nil && len(c.Exact) == 0:
		return "0"
	case len(c.Exact) == 1:
		return "has(" + col + ", " + quote(c.Exact[0]) + ")"
	case c.Exact != nil:
		return "arrayExists(v -> v IN (" + quoteAll(c.Exact) + "), " + col + ")"
	case c.Part != "":
		return "arrayExists(v -> position(v, " + quote(c.Part) + ") > 0, " + col + ")"
	}
	return "notEmpty(" + col + ")"
}

// ofOthers is what others meets of a field that Other returns.
func ofOthers(f query.Field, c *store.Condition) string {
	if c.Exact != nil {
		named := store.Condition{Exact: make([]string, len(c.Exact))}
		for i, v := range c.Exact {
			named.Exact[i] = otherOf(f, v)
		}
		return ofList(others, &named)
	}
	is := "startsWith(v, " + quote(otherName(f)) + ")"
	if c.Part != "" {
		is += " AND position(v, " + quote(c.Part) + ") > 0"
	}
	return "arrayExists(v -> " + is + ", " + others + ")"
}

// ofOne is what a column meets that has a value, as stored makes it.
func ofOne(col string, c *store.Condition) string {
	switch {
	case c.Exact != nil && len(c.Exact) == 0:
		return "0"
	case len(c.Exact) == 1:
		return col + " = " + quote(stored(c.Exact[0]))
	case c.Exact != nil:
		all := make([]string, len(c.Exact))
		for i, v := range c.Exact {
			all[i] = stored(v)
		}
		return col + " IN (" + quoteAll(all) + ")"
	case c.Part != "":
		return "position(" + col + ", " + quote(c.Part) + ") > 0"
	}
	return col + " != ''"
}

// seen limits rows to what a snapshot has.
func (s *snapshot) seen(q *query.Query, others *account) []string {
	var bounds []string
	if !q.Theirs {
		bounds = append(bounds, fmt.Sprintf("(store = %s AND batch <= %d)", quote(s.e.opts.Store), s.last))
	}
	for id, r := range others.last {
		last := r.batch
		if q.Others != nil {
			last = min(last, q.Others[id])
		}
		if id != s.e.opts.Store && !q.Own && last > 0 {
			bounds = append(bounds, fmt.Sprintf("(store = %s AND batch <= %d)", quote(id), last))
		}
	}
	if len(bounds) == 0 {
		bounds = append(bounds, "0")
	}
	out := []string{"(" + strings.Join(bounds, " OR ") + ")"}
	hidden := maps.Clone(s.hidden)
	s.e.mu.Lock()
	reads := s.e.reads(s.number)
	s.e.mu.Unlock()
	for _, part := range others.hidden {
		if !reads[part] {
			hidden[part] = true
		}
	}
	if len(hidden) > 0 {
		var list []string
		for part := range hidden {
			list = append(list, partition(part))
		}
		out = append(out, "(day, part) NOT IN ("+strings.Join(list, ", ")+")")
	}
	return out
}

// days leaves out the days that have no events of the query's time, so that they are not looked at; "" where there is none. An event without a time
// is in no part's times, and is only looked for where the query has no beginning.
func (a *account) days(q *query.Query) string {
	if q.StartMs == 0 {
		return ""
	}
	out := map[store.Day]bool{}
	for part, p := range a.parts {
		if before, ok := out[part.Day]; !ok || before {
			out[part.Day] = outside(p, q)
		}
	}
	// A server passes over partitions by comparisons of the day, and not by NOT IN.
	var runs []string
	all := slices.Sorted(maps.Keys(out))
	for i := 0; i < len(all); i++ {
		if !out[all[i]] {
			continue
		}
		first := all[i]
		for i+1 < len(all) && out[all[i+1]] && all[i+1] == all[i]+1 {
			i++
		}
		runs = append(runs, fmt.Sprintf("(day < %d OR day > %d)", dayNumber(first), dayNumber(all[i])))
	}
	if len(runs) > maxList {
		return ""
	}
	return strings.Join(runs, " AND ")
}

// outside says that no event of a part is of the query's time, those without a time aside.
func outside(p *store.PartStats, q *query.Query) bool {
	return q.StartMs != 0 && p.MaxMs < q.StartMs || q.EndMs != 0 && p.MinMs > q.EndMs
}
