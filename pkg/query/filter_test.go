package query

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

func TestFieldTests(t *testing.T) {
	ev := parsed(t, "node=web "+stamped("SYSCALL", `syscall=59 arch=c000003e pid=901 exit=-13 uid=0 comm=6120622222 exe="/bin/cat"`+"\x1d"+`UID="root"`),
		"node=web "+stamped("USER_LOGIN", `pid=1 msg='op=login acct="bob" res=success'`))
	for _, c := range []struct {
		test FieldTest
		want bool
	}{
		{FieldTest{Name: "pid", Text: "901"}, true}, {FieldTest{Name: "pid", Op: OpContains, Text: "90"}, false}, // numbers whole
		{FieldTest{Name: "exit", Op: OpContains, Text: "13"}, false}, {FieldTest{Name: "exe", Op: OpContains, Text: "bin"}, true},
		{FieldTest{Name: "comm", Text: `a b""`}, true}, {FieldTest{Name: "exe", Op: OpRegexp, Text: "^/bin/"}, true},
		{FieldTest{Name: "exe", Op: OpRegexp, Text: "^bin"}, false}, {FieldTest{Name: "acct", Text: "bob"}, true},
		{FieldTest{Name: "UID", Text: "root"}, true}, {FieldTest{Name: "node", Text: "web"}, true}, {FieldTest{Name: "node", Text: "SYSCALL"}, false},
		{FieldTest{Name: "type", Text: "SYSCALL"}, true}, {FieldTest{Name: "type", Text: "web"}, false},
		{FieldTest{Name: "*", Text: "web"}, true}, {FieldTest{Name: "*", Text: "login"}, true}, {FieldTest{Name: "*", Text: "nowhere"}, false},
		{FieldTest{Name: "syscall", Text: "execve"}, false}, {FieldTest{Name: "syscall", Text: "execve", Words: true}, true},
	} {
		for _, not := range []bool{false, true} {
			q := &Query{Filters: []Filter{{Field: &c.test, Not: not}}}
			if got := NewMatcher(q).Match(ev); got != (c.want != not) {
				t.Errorf("%+v, not %v: %v", c.test, not, got)
			}
		}
	}
}

func TestQueryCheck(t *testing.T) {
	good := Term{Fields: []Field{FieldPID}, Text: "1"}
	for i, q := range []*Query{
		{Terms: []Term{{Fields: good.Fields, Op: lastOp + 1}}}, {Terms: []Term{{}}}, {Terms: []Term{{Fields: []Field{Field(NumFields)}}}},
		{Terms: []Term{{Fields: make([]Field, NumFields+1)}}}, {Terms: []Term{{Fields: good.Fields, Op: OpRegexp, Text: "("}}},
		{Filters: []Filter{{}}}, {Filters: []Filter{{Term: &good, Expression: "a r= 1"}}}, {Filters: []Filter{{Term: &Term{}}}},
		{Filters: []Filter{{Expression: "("}}}, {Filters: []Filter{{Field: &FieldTest{Op: OpUser}}}},
		{Filters: []Filter{{Field: &FieldTest{Op: OpRegexp, Text: "("}}}},
	} {
		if err := q.Check(); !errors.Is(err, ErrQuery) {
			t.Errorf("query %d: %v", i, err)
		}
		if NewMatcher(q).Match(parsed(t, stamped("SYSCALL", "pid=1 a=1"))) {
			t.Errorf("query %d finds something", i)
		}
	}
	if err := (&Query{Terms: []Term{good}}).Check(); err != nil {
		t.Error(err)
	}
}

func TestQueryConditions(t *testing.T) {
	ev := parsed(t, "node=web "+stamped("SYSCALL", "pid=1"))
	ev.From = &event.Sender{Addr: netip.MustParseAddr("192.0.2.1")}
	for i, c := range []struct {
		q    Query
		want bool
	}{
		{Query{}, true}, {Query{StartMs: 1700000000123, EndMs: 1700000000123}, true}, {Query{StartMs: 1700000000124}, false},
		{Query{EndMs: 1700000000122}, false}, {Query{Serial: 45, HasSerial: true}, true}, {Query{HasSerial: true}, false},
		{Query{Nodes: []string{"db", "web"}}, true}, {Query{Nodes: []string{"db"}}, false}, {Query{Types: []uint32{1300}}, true},
		{Query{Types: []uint32{1301}}, false}, {Query{From: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, true},
		{Query{From: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, false},
	} {
		if got := NewMatcher(&c.q).Match(ev); got != c.want {
			t.Errorf("query %d: %v", i, got)
		}
	}
}

func TestTermValues(t *testing.T) {
	for _, c := range []struct {
		term    Term
		yes, no string
		exact   []string
	}{
		{Term{Text: "a"}, "a", "ab", []string{"a"}}, {Term{Op: OpContains, Text: "a"}, "bab", "b", nil},
		{Term{Op: OpUser, Text: "root", Number: "0"}, "0", "1", []string{"root", "0"}}, {Term{Op: OpUser, Text: "root"}, "root", "", []string{"root"}},
		{Term{Op: OpRegexp, Text: "^a"}, "ab", "ba", nil},
	} {
		f := c.term.Values()
		exact, ok := c.term.Exact()
		if !f([]byte(c.yes)) || f([]byte(c.no)) || !slices.Equal(exact, c.exact) || ok != (c.exact != nil) {
			t.Errorf("%+v: %q %v", c.term, exact, ok)
		}
	}
	if (&Term{Op: OpRegexp, Text: "("}).Values()([]byte("(")) {
		t.Error("a bad regular expression finds something")
	}
}

func TestNeedsAndClues(t *testing.T) {
	term := Term{Fields: []Field{FieldPID}, Text: "901"}
	q := &Query{Terms: []Term{term}, Types: []uint32{1300}, Filters: []Filter{{Term: &term}, {Not: true, Term: &term},
		{Expression: "type r= SYSCALL || \\record_type == 1302"}, {Expression: "a r= 1 && type i= PATH"}, {Expression: "("}, {Expression: "a r= 1"}}}
	var got []string
	for _, n := range q.Needs() {
		got = append(got, n.Text)
	}
	if want := []string{"901", "901", "^(?:1300|1302)$", "^(?:1302)$"}; !slices.Equal(got, want) {
		t.Errorf("needs %q", got)
	}
	types, texts := NewMatcher(&Query{Types: q.Types, Terms: []Term{term}}).Clues()
	if !types[1300] || types[1302] || len(texts) != 1 || string(texts[0]) != "901" {
		t.Errorf("clues %v %q", types, texts)
	}
	for _, e := range []string{"comm r= nowhere", `\regexp nowhere`, "a r= 1 && comm r= nowhere"} {
		if _, texts := NewMatcher(&Query{Filters: []Filter{{Expression: e}}}).Clues(); len(texts) == 0 || string(texts[0]) != "nowhere" {
			t.Errorf("%s: %q", e, texts)
		}
	}
	if _, texts := NewMatcher(&Query{Terms: []Term{{Fields: []Field{FieldPID, FieldPPID}, Text: "901"}}}).Clues(); texts != nil {
		t.Errorf("two fields: %q", texts)
	}
	if q.Countable() || !(&Query{Nodes: []string{"a"}}).Countable() {
		t.Error("Countable")
	}
}

func TestClassOf(t *testing.T) {
	for typ, want := range map[uint16]Class{tables.Syscall: ClassSyscall, tables.AVC: ClassAVC, tables.User: ClassUser,
		tables.LastUserMsg2: ClassUser, tables.LastUserMsg2 + 1: ClassNone, tables.Execve: ClassNone} {
		if got := ClassOf(typ); got != want {
			t.Errorf("%d: %d", typ, got)
		}
	}
}
