package query

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/event/eventtest"
	"github.com/auditfleet/auditfleet/pkg/record"
)

func TestFieldNames(t *testing.T) {
	names := FieldNames()
	for _, name := range names {
		f, ok := FieldNamed(name)
		if !ok || fieldNames[f] != name {
			t.Errorf("%s: %v, %v: two names begin alike for startOf", name, f, ok)
		}
		if !f.Other().IsOther() || f.IsOther() || f.Other().String() != "other-"+f.String() {
			t.Errorf("other of %s is %s", f, f.Other())
		}
	}
	for _, name := range []string{"", "a", "tty", "type", "node", "uids", "PID", "hostname", "successes", "auid-name"} {
		if f, ok := FieldNamed(name); ok {
			t.Errorf("%q is %s", name, f)
		}
	}
}

// anywhere is the Filter that --field makes of a name that FieldNamed knows.
func anywhere(name string, op Op, text string, more ...Field) Filter {
	f, _ := FieldNamed(name)
	return Filter{Term: &Term{Fields: append([]Field{f}, more...), Op: op, Text: text, Number: "0"}, Field: &FieldTest{Name: name}}
}

// TestEverywhere is about fields that are not in the record that an event is otherwise
// searched by, or stand twice there.
func TestEverywhere(t *testing.T) {
	ev := parsed(t,
		stamped("BPF", `prog-id=7 op=LOAD comm="bpftool" exe=2F746D702F6120 pid=n/a`),
		stamped("SYSCALL", `arch=c000003e syscall=321 success=yes exit=5 pid=901 uid=0 auid=1000 ses=3 comm="cat" comm="dog" exe="/bin/cat" subj=s key="k"`+"\x1d"+`UID="toor" AUID="alice"`),
		stamped("USER_CMD", `pid=902 uid=1000 auid=1001 subj=u msg='cmd=6C73 uid=5 pid=77 key="inner" acct="bob" acct="eve" terminal=x res=success'`+"\x1d"+`UID="bob" AUID="carol" UID="dave x"`),
		stamped("CWD", `cwd="/" comm="odd" msg='ses=9 exit=-2'`),
		stamped("NETFILTER_CFG", `table=x pid=903 uid=? comm="nft" subj=n`))
	for _, c := range []struct {
		f    Filter
		want bool
	}{
		{anywhere("comm", OpEqual, "bpftool"), true}, {anywhere("comm", OpEqual, "cat"), true}, {anywhere("comm", OpEqual, "dog"), true},
		{anywhere("comm", OpContains, "od"), true}, {anywhere("comm", OpRegexp, "^n.t$"), true}, {anywhere("comm", OpEqual, "ca"), false},
		{anywhere("exe", OpEqual, "/tmp/a "), true}, {anywhere("exe", OpContains, "/bin"), true}, {anywhere("pid", OpEqual, "901"), true},
		{anywhere("pid", OpEqual, "77"), true}, {anywhere("pid", OpEqual, "90"), false}, {anywhere("pid", OpRegexp, "^n/a$"), true},
		{anywhere("pid", OpLess, "100"), true}, {anywhere("pid", OpLess, "77"), false}, {anywhere("pid", OpLessEqual, "77"), true},
		{anywhere("pid", OpGreater, "903"), false}, {anywhere("pid", OpGreaterEqual, "903"), true}, {anywhere("exit", OpLess, "0"), true},
		{anywhere("uid", OpEqual, "5"), true}, {anywhere("uid", OpEqual, "1000"), true}, {anywhere("uid", OpRegexp, `^\?$`), true},
		{anywhere("auid", OpEqual, "1000"), true}, {anywhere("auid", OpEqual, "1001"), true}, {anywhere("ses", OpEqual, "9"), true},
		{anywhere("acct", OpEqual, "bob"), true}, {anywhere("acct", OpEqual, "eve"), true}, {anywhere("key", OpEqual, "inner"), true},
		{anywhere("terminal", OpEqual, "x"), true}, {anywhere("subj", OpEqual, "u"), true}, {anywhere("subj", OpEqual, "n"), true},
		{anywhere("arch", OpEqual, "x86_64"), true}, {anywhere("arch", OpEqual, "i386"), false}, {anywhere("host", OpEqual, "x"), false},
		{anywhere("uid", OpUser, "dave x", FieldUIDName), true}, {anywhere("uid", OpUser, "toor", FieldUIDName), true},
		{anywhere("auid", OpUser, "alice", FieldAUIDName), true}, {anywhere("auid", OpUser, "nobody", FieldAUIDName), false},
		{anywhere("uid", OpRegexp, "^dave", FieldUIDName), true},
		// 0 is root here, and its own host says that it is another.
		{anywhere("uid", OpUser, "root", FieldUIDName), false},
	} {
		for _, not := range []bool{false, true} {
			c.f.Not = not
			q := &Query{Filters: []Filter{c.f}}
			if err := q.Check(); err != nil {
				t.Fatal(err)
			}
			if got := NewMatcher(q).Match(ev); got != (c.want != not) {
				t.Errorf("%s %d %q, not %v: %v", c.f.Field.Name, c.f.Term.Op, c.f.Term.Text, not, got)
			}
			if got := indexAllows(ev, q); c.want && !not && !got {
				t.Errorf("%s %d %q: the index hides it", c.f.Field.Name, c.f.Term.Op, c.f.Term.Text)
			}
		}
	}
	for _, bad := range []Filter{
		{Term: &Term{Fields: []Field{FieldPID}}, Field: &FieldTest{Name: "comm"}}, {Term: &Term{Fields: []Field{FieldPID}}, Field: &FieldTest{Name: "a0"}},
		{Term: &Term{Fields: []Field{FieldPID}, Op: OpLess, Text: "x"}}, {Field: &FieldTest{Name: "a0", Op: OpGreater, Text: "1.5"}},
	} {
		if err := (&Query{Filters: []Filter{bad}}).Check(); !errors.Is(err, ErrQuery) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// indexAllows says whether an index has a value that each condition of the query needs.
func indexAllows(ev *event.Event, q *Query) bool {
	has := map[Field][]string{}
	var x Extractor
	x.Index(ev, func(f Field, v []byte) { has[f] = append(has[f], string(v)) })
	for _, t := range q.Needs() {
		match, found := t.Values(), false
		for _, f := range t.Fields {
			found = found || slices.ContainsFunc(has[f], func(v string) bool { return match([]byte(v)) })
		}
		if !found {
			return false
		}
	}
	return true
}

// TestIndexHidesNothing mutates the records of the logs (fields gone, twice, in another order
// or another record), and asks for each of their fields.
func TestIndexHidesNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(need.Seed(t), 7))
	asked := 0
	for _, name := range []string{"types", "fleet", "kernel-node", "kernel-raw"} {
		for i, ev := range eventtest.Read(t, testLogs+name+".log") {
			if i%need.Rounds(2, 7) != 0 {
				continue
			}
			var lines []string
			for k := range ev.Records {
				lines = append(lines, mutated(r, string(ev.Records[k].Raw), string(ev.Records[r.IntN(len(ev.Records))].Raw)))
			}
			for _, ev := range eventtest.Parse([]byte(strings.Join(lines, "\n"))) {
				asked += askEach(t, ev)
			}
		}
	}
	if asked < need.Size(1000, 500) {
		t.Errorf("only %d fields were asked for", asked)
	}
}

func mutated(r *rand.Rand, line, other string) string {
	head, body, ok := strings.Cut(line, "): ")
	if !ok {
		return line
	}
	words := strings.Split(body, " ")
	for range r.IntN(4) {
		i := r.IntN(len(words))
		switch r.IntN(5) {
		case 0:
			words = slices.Delete(words, i, i+1)
		case 1:
			words = slices.Insert(words, i, words[r.IntN(len(words))])
		case 2:
			words[i], words[0] = words[0], words[i]
		case 3:
			_, body, _ := strings.Cut(other, "): ")
			theirs := strings.Split(body, " ")
			words = slices.Insert(words, i, theirs[r.IntN(len(theirs))])
		case 4:
			name, _, _ := strings.Cut(words[i], "=")
			words[i] = name + "=" + []string{"", "?", "n/a", "6162", `"x y"`, "4294967295", "-1", "0"}[r.IntN(8)]
		}
		if len(words) == 0 {
			return line
		}
	}
	return head + "): " + strings.Join(words, " ")
}

// askEach asks for each value of the event's fields, and returns how many there were.
func askEach(t *testing.T, ev *event.Event) (asked int) {
	t.Helper()
	for i := range ev.Records {
		r := &ev.Records[i]
		for _, fields := range []record.Fields{r.Fields(), r.MsgFields()} {
			for v, ok := fields.Next(); ok; v, ok = fields.Next() {
				f, ok := FieldNamed(string(v.Name))
				if !ok {
					continue
				}
				asked++
				one, _, _ := cutValue(f, appendNormal(nil, f, v))
				text := string(one)
				if text == "" && f == FieldKey {
					continue // no key
				}
				op := OpEqual
				if numeric.Has(f) {
					if _, ok := parseNumber(f, text); !ok {
						continue // no number: only found as text
					}
				}
				q := &Query{Filters: []Filter{anywhere(string(v.Name), op, text)}}
				if !NewMatcher(q).Match(ev) || !indexAllows(ev, q) {
					t.Errorf("%s=%s is not found in %q, index %v", v.Name, text, ev.Records[i].Raw, indexAllows(ev, q))
				}
				if !NewMatcher(q).MayMatch(r.Raw) {
					t.Errorf("%s=%s is not seen in %q", v.Name, text, r.Raw)
				}
			}
		}
	}
	return asked
}

// TestPieces: an argument that was too long for a record is searched for as a whole.
func TestPieces(t *testing.T) {
	ev := parsed(t,
		stamped("EXECVE", `argc=4 a0="ls" a1_len=12 a1[0]=612062 a1[1]="c d" a2="x"`),
		stamped("EXECVE", `a1[2]=65 a3_len=2 a3[0]="yz" a10="q"`))
	for _, c := range []struct {
		name, text string
		op         Op
		want       bool
	}{
		{"a1", "a bc de", OpEqual, true}, {"a1", "bc d", OpContains, true}, {"a1", "^a bc de$", OpRegexp, true}, {"a1", "x", OpContains, false},
		{"a2", "x", OpEqual, true}, {"a3", "yz", OpEqual, true}, {"a1[1]", "c d", OpEqual, true}, {"a1_len", "12", OpEqual, true},
		{"a1_len", "10", OpGreater, true}, {"a1_len", "12", OpGreater, false}, {"a", "q", OpEqual, false}, {"a1", "q", OpContains, false},
	} {
		for _, not := range []bool{false, true} {
			q := &Query{Filters: []Filter{{Not: not, Field: &FieldTest{Name: c.name, Op: c.op, Text: c.text}}}}
			if got := NewMatcher(q).Match(ev); got != (c.want != not) {
				t.Errorf("%s %d %q, not %v: %v", c.name, c.op, c.text, not, got)
			}
		}
	}
}
