package clickhouse

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Conditions become SQL as far as there are columns, with any text in them quoted.
func TestWhere(t *testing.T) {
	term := func(op query.Op, text string, fields ...query.Field) query.Query {
		return query.Query{Terms: []query.Term{{Fields: fields, Op: op, Text: text}}}
	}
	for name, c := range map[string]struct {
		q    query.Query
		want []string
	}{
		"all":         {query.Query{}, nil},
		"time":        {query.Query{StartMs: 5, EndMs: 9}, []string{"ts_ms >= 5", "ts_ms <= 9"}},
		"serial":      {query.Query{HasSerial: true, Serial: 7}, []string{"serial = 7"}},
		"types":       {query.Query{Types: []uint32{1300, 1302}}, []string{"(arrayExists(v -> v IN ('1300', '1302'), f_type))"}},
		"host":        {query.Query{Nodes: []string{"a", "b%_*c?"}}, []string{"((node >= 'b%_' AND node < 'b%`') OR node IN ('a', 'b%_*c?'))"}},
		"no UTF-8":    {query.Query{Nodes: []string{"\xe9\xff*"}}, []string{"((node >= '\xe9\xff' AND node < '\xea') OR node IN ('\xe9\xff*'))"}},
		"within":      {query.Query{Nodes: []string{"*a?bc*"}}, []string{"(position(node, 'bc') > 0 OR node IN ('*a?bc*'))"}},
		"any host":    {query.Query{Nodes: []string{"a", "*"}}, nil},
		"quoted":      {term(query.OpEqual, "k'; DROP TABLE x; -- \\\x00", query.FieldKey), []string{`(has(f_key, 'k\'; DROP TABLE x; -- \\\0'))`}},
		"part":        {term(query.OpContains, "sh", query.FieldExe), []string{"(position(f_exe, 'sh') > 0)"}},
		"any of two":  {term(query.OpEqual, "5", query.FieldUID, query.FieldEUID), []string{"(f_uid = '5' OR f_euid = '5')"}},
		"others":      {term(query.OpEqual, "5", query.FieldUID, query.FieldUID.Other()), []string{"(f_uid = '5' OR has(f_other, 'uid=5'))"}},
		"in others":   {term(query.OpContains, "sh", query.FieldExe.Other()), []string{"(arrayExists(v -> startsWith(v, 'exe=') AND position(v, 'sh') > 0, f_other))"}},
		"a number":    {term(query.OpLess, "5", query.FieldPID), []string{"(f_pid != '')"}},
		"empty":       {term(query.OpEqual, "", query.FieldComm), []string{`(f_comm = '\0')`}},
		"a zero byte": {term(query.OpEqual, "\x00a", query.FieldComm), []string{`(f_comm = '\0\0a')`}},
		"expression":  {term(query.OpRegexp, "ab[0-9]", query.FieldFile), []string{"(arrayExists(v -> position(v, 'ab') > 0, f_file))"}},
		"of a list":   {term(query.OpRegexp, "[0-9]", query.FieldFile), []string{"(notEmpty(f_file))"}},
		"mismatching": {query.Query{Mismatch: true}, []string{"(f_claim != '')"}},
	} {
		if d := cmp.Diff(c.want, where(&c.q)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

// Days that have nothing of the query's time are left out, and no others.
func TestDays(t *testing.T) {
	a := &account{parts: map[store.Part]*store.PartStats{
		{Day: 0, N: 1}: {Events: 1, MinMs: 100, MaxMs: 200},
		{Day: 1, N: 1}: {Events: 1, MinMs: 300, MaxMs: 400},
		{Day: 1, N: 2}: {Events: 1, MinMs: 900, MaxMs: 950},
	}}
	for _, c := range []struct {
		start, end int64
		want       string
	}{
		{0, 0, ""}, {0, 50, ""}, {100, 950, ""}, {250, 260, "(day < 19700101 OR day > 19700102)"}, {201, 0, "(day < 19700101 OR day > 19700101)"}, {150, 299, "(day < 19700102 OR day > 19700102)"}, {200, 300, ""},
	} {
		got := a.days(&query.Query{StartMs: c.start, EndMs: c.end})
		if got != c.want {
			t.Errorf("%d to %d: %q, want %q", c.start, c.end, got, c.want)
		}
	}
}
