package storetest

import (
	"net/netip"
	"time"

	"github.com/auditfleet/auditfleet/pkg/query"
)

// Queries returns, by name, queries of every kind that a plan treats in a way of its own.
func Queries() map[string]*query.Query {
	at := func(d time.Duration) int64 { return Start.Add(d).UnixMilli() }
	term := func(op query.Op, text string, f ...query.Field) query.Term {
		return query.Term{Fields: f, Op: op, Text: text}
	}
	return map[string]*query.Query{
		"all":              {},
		"all, and whose":   {Origin: true},
		"from a host":      {From: nets("192.0.2.2/32")},
		"from a network":   {From: nets("192.0.2.0/30", "2001:db8::/32"), StartMs: at(2 * time.Second)},
		"from and file":    {From: nets("192.0.2.9/32"), Terms: []query.Term{term(query.OpContains, "/srv/data/", query.FieldFile)}},
		"from nowhere":     {From: nets("203.0.113.0/24")},
		"a nameless one":   {Nodes: []string{"192.0.2.77", "192.0.2.78"}, Origin: true},
		"time":             {StartMs: at(3 * time.Second), EndMs: at(7*time.Second) + 999},
		"open end":         {StartMs: at(9 * time.Second)},
		"no time":          {EndMs: 1},
		"node":             {Nodes: []string{"web2.example.net"}},
		"nodes and time":   {Nodes: []string{"web1.example.net", "web4.example.net", "nowhere"}, EndMs: at(5 * time.Second)},
		"nodes by pattern": {Nodes: []string{"web?.example.net", "db*"}},
		"node by pattern":  {Nodes: []string{"*2.example.net"}, StartMs: at(2 * time.Second)},
		"no such pattern":  {Nodes: []string{"mail*"}},
		"less":             {Terms: []query.Term{term(query.OpLess, "1001", query.FieldAUID)}},
		"at least":         {Terms: []query.Term{term(query.OpGreaterEqual, "1001", query.FieldAUID), term(query.OpLessEqual, "0", query.FieldExit)}},
		"more":             {Terms: []query.Term{term(query.OpGreater, "100", query.FieldPID)}, Filters: []query.Filter{{Field: &query.FieldTest{Name: "items", Op: query.OpGreater, Text: "1"}}}},
		"type":             {Types: []uint32{1300}},
		"rare types":       {Types: []uint32{1112, 1400, 1105}},
		"no such type":     {Types: []uint32{9999}},
		"serial":           {Serial: 50000, HasSerial: true},
		"exe contains":     {Terms: []query.Term{term(query.OpContains, "sud", query.FieldExe)}},
		"exe is":           {Terms: []query.Term{term(query.OpEqual, "/usr/bin/sudo", query.FieldExe)}},
		"success no":       {Terms: []query.Term{term(query.OpEqual, "no", query.FieldSuccess)}},
		"file and exe": {Terms: []query.Term{term(query.OpContains, "/srv/data/7/", query.FieldFile),
			term(query.OpContains, "bash", query.FieldExe, query.FieldComm)}},
		"crossing values":    {Terms: []query.Term{term(query.OpContains, "sshd/usr", query.FieldExe)}},
		"user":               {Terms: []query.Term{{Fields: []query.Field{query.FieldAUID, query.FieldAUIDName}, Op: query.OpUser, Text: "user1001", Number: "1001"}}},
		"group":              {Terms: []query.Term{{Fields: []query.Field{query.FieldGID, query.FieldGIDName}, Op: query.OpUser, Text: "root", Number: "0"}}},
		"group by name":      {Terms: []query.Term{{Fields: []query.Field{query.FieldGIDName, query.FieldEGIDName}, Op: query.OpUser, Text: "daemon"}}},
		"key":                {Terms: []query.Term{term(query.OpContains, "audit-k", query.FieldKey)}},
		"nothing":            {Terms: []query.Term{term(query.OpEqual, "no such thing", query.FieldComm)}},
		"uid of any record":  {Filters: anywhere("uid", term(query.OpGreaterEqual, "1000", query.FieldUID))},
		"comm of any record": {Filters: anywhere("comm", term(query.OpContains, "s", query.FieldComm))},
		"acct of any record": {Filters: anywhere("acct", term(query.OpEqual, "root", query.FieldAcct))},
		"pid of no record":   {Filters: anywhere("pid", term(query.OpLess, "0", query.FieldPID))},
		"everything at once": {StartMs: at(time.Second), EndMs: at(9 * time.Second), Nodes: []string{"web1.example.net", "web3.example.net"},
			Types: []uint32{1302}, Terms: []query.Term{term(query.OpEqual, "yes", query.FieldSuccess), term(query.OpContains, "file-1", query.FieldFile)}},
	}
}

// anywhere is a term that counts every record's fields of that name.
func anywhere(name string, t query.Term) []query.Filter {
	return []query.Filter{{Term: &t, Field: &query.FieldTest{Name: name}}}
}

// BatchQueries returns queries by batch, which only a store can answer.
func BatchQueries() map[string]*query.Query {
	at := func(d time.Duration) int64 { return Start.Add(d).UnixMilli() }
	return map[string]*query.Query{
		"of which batch": {Batches: true},
		"later batches":  {Batches: true, AfterBatch: 3},
		"later, in time": {Batches: true, AfterBatch: 2, StartMs: at(3 * time.Second), EndMs: at(7*time.Second) + 999},
		"later, one key": {AfterBatch: 4, Terms: []query.Term{{Fields: []query.Field{query.FieldKey}, Op: query.OpContains, Text: "audit-k"}}},
		"beyond the end": {AfterBatch: 6},
	}
}

func nets(list ...string) (out []netip.Prefix) {
	for _, n := range list {
		out = append(out, netip.MustParsePrefix(n))
	}
	return out
}
