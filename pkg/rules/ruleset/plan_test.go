package ruleset

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/auditfleet/auditfleet/pkg/rules"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

func testEnv() rules.Env {
	return rules.Env{Arch: tables.ArchX86_64, Accounts: accounts{}, IsDir: func(p string) bool { return strings.HasSuffix(p, ".d") }}
}

type accounts struct{}

func (accounts) UserID(name string) (uint32, bool)  { return 0, name == "root" }
func (accounts) GroupID(name string) (uint32, bool) { return 0, name == "root" }

func rule(t testing.TB, line string) *rules.Rule {
	t.Helper()
	c, err := rules.ParseArgs(rules.Args(rules.SplitLine(line)), testEnv())
	if err != nil || c.Rule() == nil {
		t.Fatalf("%s: %v", line, err)
	}
	return c.Rule()
}

func ruleList(t testing.TB, lines ...string) []*rules.Rule {
	t.Helper()
	var out []*rules.Rule
	for _, l := range lines {
		out = append(out, rule(t, l))
	}
	return out
}

// model is a kernel's rule lists, with the order of audit_add_rule in
// kernel/auditfilter.c.
type model struct {
	rules    []*rules.Rule
	requests int
	failAt   int // this request (from 1) fails with err
	err      error
	after    func(m *model) // called after each change
}

func (m *model) Rules() ([][]byte, error) {
	var out [][]byte
	for list := range rules.List(8) {
		for _, r := range m.rules {
			if r.List == list {
				b, err := r.Marshal()
				if err != nil {
					return nil, err
				}
				out = append(out, b)
			}
		}
	}
	return out, nil
}

func (m *model) request(b []byte, fn func(r *rules.Rule) error) error {
	m.requests++
	if m.requests == m.failAt {
		return m.err
	}
	r, err := rules.Unmarshal(b)
	if err != nil {
		return unix.EINVAL
	}
	if err := fn(r); err != nil {
		return err
	}
	if m.after != nil {
		m.after(m)
	}
	return nil
}

func (m *model) AddRule(b []byte) error {
	return m.request(b, func(r *rules.Rule) error {
		if indexOf(m.rules, r) >= 0 {
			return unix.EEXIST
		}
		front := r.Prepend
		r.Prepend = false
		if front {
			m.rules = append([]*rules.Rule{r}, m.rules...)
		} else {
			m.rules = append(m.rules, r)
		}
		return nil
	})
}

func (m *model) DeleteRule(b []byte) error {
	return m.request(b, func(r *rules.Rule) error {
		i := indexOf(m.rules, r)
		if i < 0 || r.Prepend {
			return unix.ENOENT
		}
		m.rules = slices.Delete(slices.Clone(m.rules), i, i+1)
		return nil
	})
}

// records is the kernel's decision for a system call of a user: that of the
// first rule that matches.
func records(list []*rules.Rule, call int, uid uint32) bool {
	for _, r := range list {
		match := r.Mask.Has(call)
		for _, f := range r.Fields {
			if f.ID == rules.FieldUID {
				match = match && f.Value == uid
			}
		}
		if match {
			return r.Action == rules.Always
		}
	}
	return false
}

func texts(list []*rules.Rule) string {
	var b strings.Builder
	for _, r := range list {
		fmt.Fprintln(&b, r.Text(testEnv(), rules.TextOptions{}))
	}
	return b.String()
}

func drawRules(t *rapid.T, name string) []*rules.Rule {
	one := rapid.Custom(func(t *rapid.T) *rules.Rule {
		line := "-a " + rapid.SampledFrom([]string{"always", "never"}).Draw(t, "action") + ",exit -S " +
			rapid.SampledFrom([]string{"0", "1", "2", "0,1", "all"}).Draw(t, "calls")
		if uid := rapid.IntRange(-1, 2).Draw(t, "uid"); uid >= 0 {
			line += fmt.Sprintf(" -F uid=%d", uid)
		}
		c, err := rules.ParseArgs(strings.Fields(line), testEnv())
		if err != nil {
			t.Fatal(err)
		}
		return c.Rule()
	})
	return rapid.SliceOfNDistinct(one, 0, 8, func(r *rules.Rule) string { return r.Text(testEnv(), rules.TextOptions{}) }).Draw(t, name)
}

func held(t fataler, m *model) []Held {
	raw, err := m.Rules()
	if err != nil {
		t.Fatalf("%v", err)
	}
	h, err := Unmarshal(raw)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return h
}

type fataler interface {
	Fatalf(format string, args ...any)
}

// TestPlanNeverUnwatched: whatever the rules before and after, what both record
// is recorded at every moment between, and in the end the kernel holds what was
// wanted in that order.
func TestPlanNeverUnwatched(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before, after := drawRules(t, "before"), drawRules(t, "after")
		if rapid.Bool().Draw(t, "related") { // a change as people make them
			after = slices.Clone(before)
			for range rapid.IntRange(0, 3).Draw(t, "edits") {
				edit(t, &after)
			}
		}
		m := &model{rules: slices.Clone(before)}
		m.after = func(m *model) {
			for call := range 3 {
				for uid := range uint32(3) {
					if records(before, call, uid) && records(after, call, uid) && !records(m.rules, call, uid) {
						t.Fatalf("call %d of user %d is not recorded for a moment\nbefore:\n%safter:\n%sthen:\n%s", call, uid, texts(before), texts(after), texts(m.rules))
					}
				}
			}
		}
		p, err := NewPlan(held(t, m), after)
		if err != nil {
			t.Fatalf("%v", err)
		}
		if err := p.Apply(m); err != nil {
			t.Fatalf("%v\nbefore:\n%safter:\n%s", err, texts(before), texts(after))
		}
		if texts(m.rules) != texts(after) {
			t.Fatalf("got:\n%swant:\n%s", texts(m.rules), texts(after))
		}
		again, err := NewPlan(held(t, m), after)
		if err != nil || !again.Empty() {
			t.Fatalf("a second plan has steps: %+v, %v", again, err)
		}
	})
}

func edit(t *rapid.T, list *[]*rules.Rule) {
	l := slices.Clone(*list)
	at := func(n int) int { return rapid.IntRange(0, n).Draw(t, "at") }
	switch kind := rapid.IntRange(0, 2).Draw(t, "edit"); {
	case kind == 0 || len(l) == 0:
		for _, r := range drawRules(t, "new") {
			if indexOf(l, r) < 0 {
				l = slices.Insert(l, at(len(l)), r)
				break
			}
		}
	case kind == 1:
		i := at(len(l) - 1)
		l = slices.Delete(l, i, i+1)
	default:
		i := at(len(l) - 1)
		r := l[i]
		l = slices.Delete(l, i, i+1)
		l = slices.Insert(l, at(len(l)), r)
	}
	*list = l
}

// TestApplyRollsBack: a request that fails, whichever it is, leaves the rules as
// they were.
func TestApplyRollsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before, after := drawRules(t, "before"), drawRules(t, "after")
		m := &model{rules: slices.Clone(before)}
		p, err := NewPlan(held(t, m), after)
		if err != nil {
			t.Fatalf("%v", err)
		}
		if p.Empty() {
			return
		}
		m.failAt = rapid.IntRange(1, len(p.Steps)).Draw(t, "fail")
		m.err = rapid.SampledFrom([]error{unix.EPERM, unix.EEXIST, unix.ENOMEM, unix.EINVAL}).Draw(t, "errno")
		err = p.Apply(m)
		var ae *ApplyError
		if !errors.As(err, &ae) || !errors.Is(err, m.err) || ae.Done != m.failAt-1 || ae.Step != &p.Steps[ae.Done] || ae.Rollback != nil {
			t.Fatalf("%+v", err)
		}
		if texts(m.rules) != texts(before) {
			t.Fatalf("after a failure:\n%swant:\n%s", texts(m.rules), texts(before))
		}
	})
}

func TestApplyRollbackFails(t *testing.T) {
	m := &model{rules: ruleList(t, "-a always,exit -S 0 -k a"), err: unix.EPERM}
	p, err := NewPlan(held(t, m), ruleList(t, "-a always,exit -S 1 -k b", "-a always,exit -S 2 -k c"))
	if err != nil {
		t.Fatal(err)
	}
	locked := &lockedAfter{model: m, n: 2}
	err = p.Apply(locked)
	var ae *ApplyError
	if !errors.As(err, &ae) || ae.Rollback == nil || !strings.Contains(err.Error(), "could not be put back") {
		t.Fatalf("%v", err)
	}
}

// lockedAfter refuses everything from request n on, as a kernel that somebody
// locks meanwhile.
type lockedAfter struct {
	*model
	n int
}

func (l *lockedAfter) AddRule(b []byte) error {
	if l.requests+1 >= l.n {
		return unix.EPERM
	}
	return l.model.AddRule(b)
}

func (l *lockedAfter) DeleteRule([]byte) error { return unix.EPERM }

// TestApplyNoticesOthers: somebody else's rule that turns up meanwhile is an
// error, and what was there before is there again.
func TestApplyNoticesOthers(t *testing.T) {
	old := ruleList(t, "-a always,exit -S 0 -k a")
	m := &model{rules: old}
	p, err := NewPlan(held(t, m), ruleList(t, "-a always,exit -S 1 -k b"))
	if err != nil {
		t.Fatal(err)
	}
	once := true
	m.after = func(m *model) {
		if once {
			once = false
			m.rules = append(m.rules, rule(t, "-a always,exit -S 2 -k other"))
		}
	}
	if err := p.Apply(m); !errors.Is(err, ErrNotHeld) || !strings.Contains(err.Error(), "key=other") {
		t.Errorf("%v", err)
	}
	if texts(m.rules) != texts(old) {
		t.Errorf("left:\n%s", texts(m.rules))
	}
}

// TestPlanSteps shows how small a small change is.
func TestPlanSteps(t *testing.T) {
	var many []string
	for i := range 200 {
		many = append(many, fmt.Sprintf("-a always,exit -S %d -k k%d", i, i))
	}
	with := func(i int, line ...string) []string { return slices.Insert(slices.Clone(many), i, line...) }
	for _, test := range []struct {
		name           string
		want           []string
		add, del, move int
		steps          int
	}{
		{"nothing", many, 0, 0, 0, 0},
		{"append", with(200, "-a never,exit -S 300"), 1, 0, 0, 1},
		{"prepend", with(0, "-a never,exit -S 300"), 1, 0, 0, 1},
		{"delete", slices.Delete(slices.Clone(many), 50, 51), 0, 1, 0, 1},
		{"insert near the end", with(198, "-a never,exit -S 300"), 1, 0, 2, 3 + 2 + 3 + 3},
		{"insert near the beginning", with(2, "-a always,exit -S 300"), 1, 0, 2, 3 + 2 + 3 + 3},
		{"all", nil, 0, 200, 0, 200},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := &model{rules: ruleList(t, many...)}
			p, err := NewPlan(held(t, m), ruleList(t, test.want...))
			if err != nil {
				t.Fatal(err)
			}
			if len(p.Added) != test.add || len(p.Deleted) != test.del || len(p.Moved) != test.move || len(p.Steps) != test.steps {
				t.Errorf("%d added, %d deleted, %d moved, %d steps", len(p.Added), len(p.Deleted), len(p.Moved), len(p.Steps))
			}
			if err := p.Apply(m); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestPlanLists: the lists are apart, a rule held twice is straightened out, and
// a rule without room for a stand-in is an error, not a gap.
func TestPlanLists(t *testing.T) {
	a, b, c := "-a always,exclude -F msgtype=1300", "-a never,filesystem -F fstype=tracefs -k x", "-a never,filesystem -F fstype=debugfs"
	m := &model{rules: ruleList(t, b, a, c, "-a never,task", b)}
	p, err := NewPlan(held(t, m), ruleList(t, "-a never,task", c, b))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Apply(m); err != nil {
		t.Fatal(err)
	}
	if got := texts(m.rules); strings.Contains(got, "exclude") || strings.Index(got, "debugfs") > strings.Index(got, "tracefs") || strings.Count(got, "tracefs") != 1 {
		t.Error(got)
	}
	full := rule(t, "-a always,exit -S 1"+strings.Repeat(" -F pid!=1", 63))
	full.Fields = append(full.Fields, full.Fields[0])
	two := ruleList(t, "-a always,exit -S 2", "-a always,exit -S 3")
	m = &model{rules: append([]*rules.Rule{full}, two...)}
	if _, err := NewPlan(held(t, m), append(two, full)); err == nil {
		t.Error("a rule of 64 fields can't be moved, and no error")
	}
	if _, err := Unmarshal([][]byte{bytes.Repeat([]byte{1}, 10)}); !errors.Is(err, rules.ErrWire) {
		t.Error(err)
	}
}
