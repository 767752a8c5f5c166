package ruleset

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/rules"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

func TestContradictions(t *testing.T) {
	const exit = "-a always,exit -F arch=b64 -S openat "
	for _, c := range []struct{ rule, want string }{
		{exit + "-F auid>=1000 -F auid<500", "no number fulfils auid>=1000 and auid<500"},
		{exit + "-F uid=0 -F uid=1000", "no number fulfils uid=0 and uid=1000"},
		{exit + "-F success=1 -F exit=-EACCES", "success=1 and its conditions on exit"},
		{exit + "-F success=0 -F exit>=0 -F exit<100", "success=0 and its conditions on exit"},
		{exit + "-F success=1 -F success=0", "on success exclude one another"},
		{exit + "-F success=1 -F success!=1", "on success exclude one another"},
		{"-a always,exclude -F msgtype=CWD -F msgtype=PATH", "no number fulfils msgtype=CWD and msgtype=PATH"},
		{"-a always,exclude -F msgtype>=1300 -F msgtype<1300", "no number fulfils"},
		{exit + "-F auid<4294967295", "no number fulfils auid<-1"}, // the kernel asks for less than "no login user"
		{exit + "-F auid!=-1 -F auid=-1", "no number fulfils auid!=-1 and auid=-1"},
		{exit + "-F a1&=0x3 -F a1<3", "no number fulfils a1&=0x3 and a1<0x3"},
		{exit + "-F a1&0x1 -F a1=2", "no number fulfils"},
		{exit + "-F gid=5 -F gid!=5", "gid=5 and gid!=5 exclude one another"},
		{exit + "-F gid>10 -F gid<10", "no number fulfils"},
		{exit + "-F pid=1 -F pid!=1", "no number fulfils"},
		{exit + "-C uid!=euid -C euid=uid", "exclude one another"},
		{exit + "-F path=/etc/passwd -F obj_uid=0 -F obj_uid=1", "no number fulfils"},
		{"-a always,exit -F arch!=b64 -F arch!=b32 -S 2", "leave out all programs"},
		{"-a always,task -F arch=b64", "not known yet"},
		{"-a always,user -F euid=0", "does not look at euid on the user list"},

		{exit + "-F auid>=1000 -F auid!=unset", ""}, {exit + "-F auid>=500 -F auid<1000", ""}, {exit + "-F exit=-EACCES -F success=0", ""},
		{exit + "-F exit>0 -F exit=-EACCES", ""}, // without a sign, as the kernel has it
		{exit + "-F gid=5 -F gid=6", ""}, {exit + "-F egid=5 -F egid>6", ""}, {exit + "-F gid=5 -F gid!=6", ""},
		{exit + "-F obj_uid=0 -F obj_uid=1", ""}, {exit + "-F dir=/etc -F obj_uid=0 -F obj_uid=1", ""}, {exit + "-F devmajor=1 -F devmajor=2", ""},
		{exit + "-F filetype=file -F filetype=dir", ""}, {exit + "-F perm=r -F perm=w", ""}, {exit + "-C uid!=obj_uid -C uid=obj_uid", ""},
		{exit + "-F auid<=-1", ""}, {exit + "-F auid>-1", ""}, {exit + "-F a0&7 -F a0&=8 -F a0<10", ""}, {"-a never,exclude -F msgtype>=1300 -F msgtype<=1399", ""},
		{"-a never,filesystem -F fstype=tracefs", ""}, {"-a never,task", ""}, {exit + "-F success!=1", ""},
	} {
		cmd, err := rules.ParseArgs(rules.Args(rules.SplitLine(c.rule)), testEnv())
		if err != nil {
			t.Fatalf("%s: %v", c.rule, err)
		}
		got := never(cmd.Rule(), tables.ArchX86_64)
		if got == "" != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.rule, got, c.want)
		}
	}
}

// compared is audit_comparator of the kernel, written down a second time.
func compared(left uint32, op rules.Operator, right uint32) bool {
	switch op {
	case rules.Equal:
		return left == right
	case rules.NotEqual:
		return left != right
	case rules.Less:
		return left < right
	case rules.LessEqual:
		return left <= right
	case rules.Greater:
		return left > right
	case rules.GreaterEqual:
		return left >= right
	case rules.BitMask:
		return left&right != 0
	case rules.BitTest:
		return left&right == right
	}
	return false
}

// happened is what a rule is tried on; where a value is not asked for it is 0.
type happened struct {
	value  uint32 // of every field but the following
	groups []uint32
	exit   uint32
	failed bool
}

func (h happened) matches(f rules.Field) bool {
	switch f.ID {
	case rules.FieldGID, rules.FieldEGID:
		member := slices.Contains(h.groups, f.Value)
		switch f.Op {
		case rules.Equal:
			return h.value == f.Value || member
		case rules.NotEqual:
			return h.value != f.Value && !member
		}
	case rules.FieldAUID:
		if f.Value == ^uint32(0) {
			set := uint32(1)
			if h.value == ^uint32(0) {
				set = 0
			}
			return compared(set, f.Op, 0)
		}
	case rules.FieldSuccess:
		left, right := uint32(1), uint32(2)
		if h.failed {
			left = 2
		}
		if f.Value != 0 {
			right = 1
		}
		return compared(left, f.Op, right)
	case rules.FieldExit:
		return compared(h.exit, f.Op, f.Value)
	case rules.FieldSaddrFam:
		return compared(h.value&0xffff, f.Op, f.Value)
	}
	return compared(h.value, f.Op, f.Value)
}

// possible goes through all that can happen, as far as the small values of the
// rules of TestNeverIsCertain can tell it apart.
func possible(r *rules.Rule) bool {
	var values []uint32
	for v := range uint32(40) {
		values = append(values, v, -v-1)
	}
	values = append(values, 1<<16, 1<<31)
	by := map[rules.FieldID][]rules.Field{}
	for _, f := range r.Fields {
		id := f.ID
		if id == rules.FieldSuccess {
			id = rules.FieldExit
		}
		by[id] = append(by[id], f)
	}
	for id, fields := range by {
		can := false
		for _, v := range values {
			tries := []happened{{value: v}}
			switch id {
			case rules.FieldGID, rules.FieldEGID:
				for set := range 1 << len(fields) {
					h := happened{value: v}
					for i, f := range fields {
						if set&(1<<i) != 0 {
							h.groups = append(h.groups, f.Value)
						}
					}
					tries = append(tries, h)
				}
			case rules.FieldExit:
				tries = []happened{{exit: v, failed: v >= ^uint32(0)-4094}}
			}
			for _, h := range tries {
				all := true
				for _, f := range fields {
					all = all && h.matches(f)
				}
				can = can || all
			}
		}
		if !can {
			return false
		}
	}
	return true
}

// What is said never to match never does, and what never matches is said to: on
// random rules, compared with trying everything.
func TestNeverIsCertain(t *testing.T) {
	r := rand.New(rand.NewPCG(need.Seed(t), 1))
	ids := []rules.FieldID{rules.FieldPID, rules.FieldUID, rules.FieldGID, rules.FieldEGID, rules.FieldAUID, rules.FieldExit, rules.FieldSuccess, rules.FieldA0, rules.FieldPers, rules.FieldSessionID, rules.FieldSaddrFam}
	ordered := []rules.Operator{rules.Equal, rules.NotEqual, rules.Less, rules.LessEqual, rules.Greater, rules.GreaterEqual}
	counts := map[bool]int{}
	rounds := need.Size(20_000, 4_000)
	for range rounds {
		rule := &rules.Rule{List: rules.ListExit, Action: rules.Always, Mask: rules.AllSyscalls()}
		some := []rules.FieldID{ids[r.IntN(len(ids))], ids[r.IntN(len(ids))], rules.FieldSuccess, rules.FieldExit}[:1+r.IntN(4)]
		for range 1 + r.IntN(5) {
			f := rules.Field{ID: some[r.IntN(len(some))], Op: ordered[r.IntN(len(ordered))], Value: uint32(r.IntN(7))}
			if r.IntN(5) == 0 && f.ID != rules.FieldSuccess {
				f.Value = -f.Value
			}
			if (f.ID == rules.FieldA0 || f.ID == rules.FieldPers) && r.IntN(2) == 0 {
				f.Op, f.Value = []rules.Operator{rules.BitMask, rules.BitTest}[r.IntN(2)], uint32(r.IntN(8))
			}
			rule.Fields = append(rule.Fields, f)
		}
		can, why := possible(rule), never(rule, tables.ArchX86_64)
		counts[can]++
		if can != (why == "") {
			t.Fatalf("%s: possible: %v, said: %q", rule.Text(testEnv(), rules.TextOptions{}), can, why)
		}
	}
	if counts[true] < rounds/4 || counts[false] < rounds/10 {
		t.Errorf("%v", counts)
	}
	t.Logf("%d rules can match, %d never do", counts[true], counts[false])
}

// Large masks and many exclusions are given up on, never called empty for that.
func TestEmptyGivesUp(t *testing.T) {
	n := full
	for i := range uint32(30) {
		n.narrow(rules.Field{Op: rules.BitMask, Value: 1 << (i + 2)})
	}
	if n.empty() {
		t.Error("a set with ^0 in it is called empty")
	}
}

func TestSymlinks(t *testing.T) {
	dir := t.TempDir()
	for _, err := range []error{
		os.WriteFile(dir+"/real", nil, 0o700), os.Mkdir(dir+"/folder", 0o700), os.WriteFile(dir+"/folder/in", nil, 0o600),
		os.Symlink("real", dir+"/link"), os.Symlink("link", dir+"/link2"), os.Symlink("folder", dir+"/dirlink"), os.Symlink("nowhere", dir+"/dangling"), os.Symlink("circle", dir+"/circle"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	env := SystemLintEnv()
	for _, c := range []struct{ rule, link, real string }{
		{"-w D/link2 -p wa", "D/link2", "D/real"}, {"-a always,exit -F path=D/link -F perm=w", "D/link", "D/real"}, {"-a always,exit -F dir=D/dirlink/ -F perm=w", "D/dirlink", "D/folder"},
		{"-a always,exit -F arch=b64 -S all -F exe=D/link", "D/link", "D/real"}, {"-w D/dangling -p w", "D/dangling", "D/nowhere"}, {"-w D/circle -p w", "D/circle", "D/circle"},
		{"-w D/dirlink -p w", "D/dirlink", "D/folder"},
		{"-w D/real -p w", "", ""}, {"-w D/dirlink/in -p w", "", ""}, {"-a always,exit -F arch=b64 -S all -F exe!=D/link", "", ""},
	} {
		target := Resolve(nil, parse(strings.ReplaceAll(c.rule, "D", dir)))
		if len(target.Failures) > 0 {
			t.Fatal(target.Failures)
		}
		said := ""
		for _, w := range Lint(target.Rules, env) {
			if strings.Contains(w.Msg, "symbolic link") {
				said += w.Msg + "; " + w.Hint
			}
		}
		if c.link == "" != (said == "") || !strings.Contains(said, strings.ReplaceAll(c.link, "D", dir)+" is a symbolic link") && said != "" || !strings.Contains(said, strings.ReplaceAll(c.real, "D", dir)) {
			t.Errorf("%s: %q", c.rule, said)
		}
	}
}

// Numbers that wrap are warnings that lint takes for errors, wherever they stand.
func TestWrappingNumbers(t *testing.T) {
	for _, line := range []string{
		"-b 99999999999", "-r 4294967296", "--backlog_wait_time 99999999999", "-a always,exit -S all -F uid=4294967296", "-a always,exit -S all -F auid=99999999999", "-a always,exit -S all -F exit=99999999999",
		"-a always,exit -S all -F exit=-99999999999", "-a always,exit -S all -F a0=0x100000000", "-a always,exit -S all -F a3&0xffffffffffffffffff", "-a always,exit -S all -F pid=4294967297", "-a always,exit -S all -F gid=4294967296",
		"-a always,exit -S all -F sessionid=4294967296", "-a always,exit -S all -F inode=4294967297", "-a always,exit -S all -F success=4294967297", "-a always,exclude -F msgtype=4294968603", "-a always,exit -S all -F a1=-4294967296",
	} {
		target := Resolve(nil, parse(line))
		wraps := 0
		for _, w := range append(target.Warnings, Lint(target.Rules, LintEnv{Arch: testEnv().Arch})...) {
			if w.Wraps {
				wraps++
				if s := w.Refused(); strings.Contains(s, "warning: W") || !strings.Contains(s, "does not fit 32 bits") {
					t.Errorf("%s: %s", line, s)
				}
			}
		}
		if wraps != 1 || len(target.Failures) > 0 {
			t.Errorf("%s: %d wrap, failures: %v", line, wraps, target.Failures)
		}
	}
	for _, line := range []string{"-b 4294967295", "-a always,exit -S all -F exit=-1", "-a always,exit -S all -F auid=-1", "-a always,exit -S all -F a0=0xffffffff", "-f 2", "-e 2"} {
		target := Resolve(nil, parse(line))
		for _, w := range append(target.Warnings, Lint(target.Rules, LintEnv{Arch: testEnv().Arch})...) {
			if w.Wraps {
				t.Errorf("%s: %s", line, w.Msg)
			}
		}
	}
}

// What anybody may write, and what an editor put before the first line, is said.
func TestMergeWarnsOfModeAndMark(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"a.rules": "-D\n", "b.rules": "\ufeff-b 8192\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "a.rules"), 0o666); err != nil {
		t.Fatal(err)
	}
	m, err := Merge(dir)
	if err != nil {
		t.Fatal(err)
	}
	said := ""
	for _, w := range m.Warnings {
		said += w.String()
	}
	if len(m.Warnings) != 2 || !strings.Contains(said, "a.rules: warning: the file is world-writable") || !strings.Contains(said, "b.rules:1: warning: the file begins with a byte order mark") {
		t.Errorf("%s", said)
	}
}
