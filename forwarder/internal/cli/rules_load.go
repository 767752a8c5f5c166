package cli

import (
	"errors"
	"fmt"
	"io"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/pkg/rules"
	"github.com/auditfleet/auditfleet/pkg/rules/ruleset"
)

// loadFile loads one rule file as a whole.
func (r *ruleFiles) loadFile(path string) int {
	in, err := openRules(path)
	if err != nil {
		fmt.Fprintln(r.err, err)
		return 1
	}
	defer in.Close()
	data, err := io.ReadAll(in)
	if err != nil {
		fmt.Fprintf(r.err, "%s: %v\n", path, err)
		return 1
	}
	return r.load(ruleset.Parse(path, data, r.env))
}

// loading is one load of rules: what the kernel held before, and what it is to hold
// afterwards.
type loading struct {
	*ruleFiles
	conn   *kernel.Conn
	before []ruleset.Held
	status kernel.Status
	target *ruleset.Target
	failed int // lines that were left out, under -i or -c
}

// prepare reads the kernel's rules and works out what the file wants of it.
func (r *ruleFiles) prepare(f *ruleset.File) (*loading, bool) {
	if !r.allowed() {
		fmt.Fprintln(r.err, "You must be root to run this program.")
		fmt.Fprintln(r.err, "  it needs CAP_AUDIT_CONTROL; rules lint looks at rule files without it")
		return nil, false
	}
	conn, err := r.connect()
	if err != nil {
		fmt.Fprintln(r.err, "Cannot open netlink audit socket")
		r.hint(r.why(err, nil))
		return nil, false
	}
	l := &loading{ruleFiles: r, conn: conn}
	if l.status, err = conn.Status(); err == nil {
		var raw [][]byte
		if raw, err = conn.Rules(); err == nil {
			l.before, err = ruleset.Unmarshal(raw)
		}
	}
	if err != nil {
		r.sent("Error reading the kernel's rules", err)
		return nil, false
	}
	current := make([]*rules.Rule, len(l.before))
	for i, h := range l.before {
		current[i] = h.Rule
	}
	l.target = ruleset.Resolve(current, f)
	return l, true
}

func (l *loading) wanted() []*rules.Rule {
	list := make([]*rules.Rule, len(l.target.Rules))
	for i, p := range l.target.Rules {
		list[i] = p.Rule
	}
	return list
}

func (l *loading) plan() (*ruleset.Plan, bool) {
	p, err := ruleset.NewPlan(l.before, l.wanted())
	if err != nil {
		fmt.Fprintln(l.err, err)
		return nil, false
	}
	return p, true
}

// load has the kernel hold what the file says, or what it held before.
func (r *ruleFiles) load(f *ruleset.File) int {
	l, ok := r.prepare(f)
	if !ok {
		return 1
	}
	failures, _ := l.complain(l.target, false)
	if failures > 0 && !l.target.GoOn {
		fmt.Fprintf(l.err, "%s: %s can't be loaded: nothing was changed in the kernel\n", f.Name, count(failures, "line"))
		l.hint("mend the lines above; or write -c before them, which loads all others and exits with 1")
		return 1
	}
	l.failed = failures
	plan, ok := l.plan()
	if !ok {
		return 1
	}
	if l.dryRun {
		return l.show(plan)
	}
	if l.status.Enabled == 2 {
		if plan.Empty() {
			fmt.Fprintf(l.err, "%s: the kernel is locked (-e 2) and holds these %s\n", f.Name, count(len(l.target.Rules), "rule"))
			return 0
		}
		return l.locked()
	}
	if plan, ok = l.carry(f.Name, plan); !ok {
		return 1
	}
	fmt.Fprintf(l.err, "%s: %s in the kernel: %d added, %d deleted, %d moved", f.Name, count(len(l.target.Rules), "rule"), len(plan.Added), len(plan.Deleted), len(plan.Moved))
	if n := l.failed + l.target.Skipped; n > 0 {
		fmt.Fprintf(l.err, "; %s failed, %d skipped", count(l.failed, "line"), l.target.Skipped)
	}
	fmt.Fprintln(l.err)
	if l.failed > 0 && l.target.ExitFail {
		return 1
	}
	return 0
}

// carry carries the plan out, and the settings before and behind it. Under -i or -c a
// rule that the kernel refuses is left out, and the rest tried again.
func (l *loading) carry(name string, plan *ruleset.Plan) (*ruleset.Plan, bool) {
	if l.stock && l.target.Replaces {
		fmt.Fprintln(l.out, "No rules") // what auditctl lists after -D
	}
	if !l.settings(l.target.Before) {
		return nil, l.undo(name, false)
	}
	for {
		err := plan.Apply(l.conn)
		if err == nil {
			break
		}
		again := l.explainApply(err)
		if !again {
			return nil, l.undo(name, false)
		}
		var ok bool
		if plan, ok = l.plan(); !ok {
			return nil, l.undo(name, false)
		}
	}
	if !l.settings(l.target.After) {
		return nil, l.undo(name, true)
	}
	return plan, true
}

// explainApply prints why a plan failed. Where the file says to go on after errors, it
// leaves out the rule that the kernel refused and returns true.
func (l *loading) explainApply(err error) (again bool) {
	var e *ruleset.ApplyError
	if !errors.As(err, &e) || e.Step == nil {
		fmt.Fprintln(l.err, err)
		return false
	}
	at := -1
	for i, p := range l.target.Rules {
		if !e.Step.Delete && p.Rule.Equal(e.Step.Rule) {
			at = i
		}
	}
	op := &rules.Op{Kind: rules.OpAdd, Rule: e.Step.Rule}
	verb := "added"
	if e.Step.Delete {
		op.Kind, verb = rules.OpDelete, "deleted"
	}
	place := ""
	if at >= 0 && l.target.Rules[at].Line != nil {
		place = l.target.Rules[at].Line.Place() + ": "
	}
	fmt.Fprintf(l.err, "%sthe kernel refused a rule to be %s (%s)\n", place, verb, errnoText(e.Err))
	l.hint(e.Step.Rule.Text(l.env, rules.TextOptions{}))
	l.hint(l.why(e.Err, op))
	if e.Rollback != nil {
		fmt.Fprintf(l.err, "the rules from before could not be put back: %v\n", e.Rollback)
		return false
	}
	if at < 0 || l.target.Rules[at].Line == nil || !l.goOn() {
		return false
	}
	l.target.Rules = append(l.target.Rules[:at:at], l.target.Rules[at+1:]...)
	l.failed++
	return true
}

// goOn reports whether the file says to go on after errors. Resolve knows it of
// lines that failed there; here it counts for rules the kernel refuses.
func (l *loading) goOn() bool { return l.target.Continues }

// settings carries out what is no rule, a line at a time, as auditctl does.
func (l *loading) settings(list []ruleset.Setting) bool {
	for i := 0; i < len(list); {
		cmd := &rules.Command{}
		line := list[i].Line
		for ; i < len(list) && list[i].Line == line; i++ {
			cmd.Ops = append(cmd.Ops, list[i].Op)
		}
		if l.carryOut(cmd) == 0 {
			continue
		}
		fmt.Fprintf(l.err, "There was an error in line %d of %s\n", line.No, line.File)
		if !l.goOn() {
			return false
		}
		l.failed++
	}
	return true
}

// undo puts back what was there before the load; it always returns false. withRules
// is set when the rules were changed by then (a plan that fails undoes itself).
func (l *loading) undo(name string, withRules bool) bool {
	back := l.status
	back.Mask = kernel.MaskEnabled | kernel.MaskFailure | kernel.MaskRateLimit | kernel.MaskBacklogLimit | kernel.MaskBacklogWaitTime
	var errs []error
	if now, err := l.conn.Status(); err != nil || changed(now, l.status) {
		if err := l.conn.Set(back); err != nil {
			errs = append(errs, err)
		}
	}
	if withRules {
		if err := ruleset.Restore(l.conn, l.before); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintf(l.err, "%s: not loaded, and not all could be put back: %v\n", name, err)
		return false
	}
	fmt.Fprintf(l.err, "%s: not loaded: the kernel has the rules and settings from before\n", name)
	return false
}

func changed(a, b kernel.Status) bool {
	return a.Enabled != b.Enabled || a.Failure != b.Failure || a.RateLimit != b.RateLimit || a.BacklogLimit != b.BacklogLimit || a.BacklogWaitTime != b.BacklogWaitTime
}
