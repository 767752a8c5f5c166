package ruleset

import (
	"fmt"

	"github.com/auditfleet/auditfleet/pkg/rules"
)

// shadowed warns of a rule that never matches, because an earlier rule of its list matches
// all that it could.
func (l *linter) shadowed(i int) {
	p := l.list[i]
	for _, k := range l.matches.impliedBy(withoutKey(p.Rule)) {
		if k >= i {
			return
		}
		q := l.list[k]
		if q.Rule.List != p.Rule.List || !wider(q.Rule, p.Rule) {
			continue
		}
		where := "a rule that is loaded already"
		if q.Line != nil {
			where = fmt.Sprintf("%s:%d", q.Line.File, q.Line.No)
		}
		what := "matches all that this one could"
		switch {
		case q.Rule.Action == rules.Never && p.Rule.Action != rules.Never:
			l.warn(p, "unreachable: "+where+" says never and "+what, "the first rule that matches decides: put this one before it, or narrow the other")
		case q.Rule.Action == rules.Never:
			l.warn(p, "unreachable: "+where+" "+what, "one of the two is enough")
		default:
			l.warn(p, "unreachable: "+where+" "+what+", and its key is used", "the first rule that matches decides: put the narrower one first")
		}
		return
	}
}

// flood warns of a rule that matches every system call of all processes, or of many.
func (l *linter) flood(p Placed) {
	r := p.Rule
	if r.Action != rules.Always || !r.Mask.All() && r.List == rules.ListExit {
		return
	}
	switch r.List {
	case rules.ListTask:
		if len(conditions(r)) == 0 {
			l.warn(p, "this records every process that is started, whatever it does", "a rule on execve says more")
		}
		return
	case rules.ListExit:
	default:
		return
	}
	who := ""
	for _, f := range conditions(r) {
		switch f.ID {
		case rules.FieldPath, rules.FieldDir, rules.FieldPerm, rules.FieldInode, rules.FieldExe, rules.FieldPID, rules.FieldPPID,
			rules.FieldFileType, rules.FieldDevMajor, rules.FieldDevMinor, rules.FieldObjUID, rules.FieldObjGID, rules.FieldSaddrFam,
			rules.FieldExit, rules.FieldObjUser, rules.FieldObjRole, rules.FieldObjType, rules.FieldObjLevLow, rules.FieldObjLevHigh:
			return
		case rules.FieldSuccess:
			who = " that fails"
			if f.Value != 0 {
				who = " that succeeds"
			}
		default:
			who = " of the processes it names"
		}
	}
	if archOf(r) != 0 && archOf(r) == narrowArch(l.env.Arch) {
		return // the usual way to forbid 32-bit programs: few calls or none
	}
	l.warn(p, "this fires on every system call"+who+": expect thousands of events a second", "name the calls with -S, or the files with -F path= or dir=")
}
