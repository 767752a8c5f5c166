package ruleset

import (
	"fmt"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/rules"
)

// Placed is a wanted rule and the line that asks for it. Line is nil for a rule that the
// kernel held before and keeps.
type Placed struct {
	Rule *rules.Rule
	Line *Line
}

// Setting is an operation of a line that is not about a rule: -b, -f, -e, -t and the
// like.
type Setting struct {
	Op   rules.Op
	Line *Line
}

// Failure is a line that cannot be loaded.
type Failure struct {
	Line *Line
	Msg  string
	Hint string
}

// String returns the printed text of the failure; each of its lines ends in a newline.
func (f Failure) String() string {
	if f.Line.Err != nil {
		return f.Line.Explain()
	}
	s := f.Line.Place() + ": " + f.Msg + "\n  " + strings.TrimSpace(f.Line.Text) + "\n"
	if f.Hint != "" {
		s += "  " + f.Hint + "\n"
	}
	return s
}

// Target is the result of loading a rule file into a kernel that holds certain rules.
type Target struct {
	Rules  []Placed  // wanted, in order; only the order within a list counts
	Before []Setting // in front of the first rule
	After  []Setting // the others
	// Failures are the lines that cannot be loaded. As with auditctl, a file with
	// failures must not be loaded at all, unless a line before them was -i or -c.
	Failures  []Failure
	Warnings  []Warning
	Loaded    int  // lines that count
	Skipped   int  // lines left out for a reason that is warned of
	GoOn      bool // all failures came after -i or -c
	Continues bool // -i or -c is in the file: a line that fails later is left out
	ExitFail  bool // -c: go on, but with exit code 1
	Replaces  bool // the file begins anew: -D is in it
}

// Resolve computes, line by line, the rules that a kernel holding current should hold
// after the file: -a appends a rule, -A puts it first, -d and -W delete one, -D deletes
// all or those with a key. A rule that is already present is wanted once, at the first of
// its two places, because only the first can match.
func Resolve(current []*rules.Rule, f *File) *Target {
	r := &resolver{target: &Target{GoOn: true}, known: map[string]int{}}
	for _, c := range current {
		r.rules = append(r.rules, Placed{Rule: c})
		r.known[ruleKey(c)]++
	}
	for i := range f.Lines {
		r.line(&f.Lines[i])
	}
	r.target.Rules = r.rules
	r.target.GoOn = r.target.GoOn && len(r.target.Failures) > 0
	return r.target
}

type resolver struct {
	target *Target
	rules  []Placed
	known  map[string]int // of rules, by ruleKey
	about  bool           // a rule to add or delete was seen
	goOn   bool
	locked *Line // -e 2
}

func (r *resolver) line(l *Line) {
	if goOn, fails := l.IgnoresErrors(); goOn {
		r.goOn, r.target.Continues = true, true
		r.target.ExitFail = r.target.ExitFail || fails
	}
	if l.Err != nil {
		r.fail(l, "", "")
		return
	}
	if r.locked != nil && changesRules(l.Cmd) {
		r.fail(l, "the rules are locked by then: "+r.locked.Place()+" is -e 2", "move -e 2 to the end")
		return
	}
	if l.Cmd.Deprecated {
		r.warn(l, "left out: the action possible is gone", "auditctl leaves the line out as well: delete it, or write always")
		r.target.Skipped++
		return
	}
	if !l.Cmd.Has(rules.OpAdd) { // Lint has those of the rules that are wanted
		for _, w := range l.Cmd.Warnings {
			r.target.Warnings = append(r.target.Warnings, asWarning(l, w))
		}
	}
	for i := range l.Cmd.Ops {
		if !r.op(l, &l.Cmd.Ops[i]) {
			return
		}
	}
	r.target.Loaded++
}

func changesRules(c *rules.Command) bool {
	return c.Has(rules.OpAdd) || c.Has(rules.OpDelete) || c.Has(rules.OpDeleteAll)
}

// op applies one operation; false when the line does not count.
func (r *resolver) op(l *Line, op *rules.Op) bool {
	switch op.Kind {
	case rules.OpAdd:
		r.about = true
		return r.addRule(l, op.Rule)
	case rules.OpDelete:
		r.about = true
		if i := r.find(op.Rule); i >= 0 {
			r.remove(i)
			return true
		}
		r.fail(l, "there is no such rule to delete", "a rule is deleted with exactly the words it was added with, in their order")
		return false
	case rules.OpDeleteAll:
		r.deleteAll(op.Key)
		return true
	case rules.OpIgnoreErrors, rules.OpContinue:
		return true
	case rules.OpHelp:
		r.fail(l, "-h in a rule file is an error to auditctl", "leave it out")
		return false
	case rules.OpSetEnabled:
		if op.Value == 2 {
			r.locked, r.about = l, true // nothing can be changed after it
		}
	}
	if r.about {
		r.target.After = append(r.target.After, Setting{*op, l})
	} else {
		r.target.Before = append(r.target.Before, Setting{*op, l})
	}
	return true
}

func (r *resolver) addRule(l *Line, rule *rules.Rule) bool {
	if why := rule.Refusal(); why != "" {
		r.fail(l, "the kernel refuses this rule: "+why, "")
		return false
	}
	i := r.find(rule)
	switch {
	case i < 0:
	case rule.Prepend:
		r.warn(l, "duplicate: "+r.source(i)+"; the rule now comes first in its list", "leave one of the two out")
		r.remove(i)
	case r.rules[i].Line == nil:
		return true // held already, and no -D in the file: nothing to do
	default:
		r.warn(l, "duplicate: "+r.source(i)+"; this one is left out", "auditctl -R ends with an error here and leaves out what follows: delete the line")
		r.target.Skipped++
		return false
	}
	placed := Placed{Rule: rule, Line: l}
	r.known[ruleKey(rule)]++
	if rule.Prepend {
		r.rules = append([]Placed{placed}, r.rules...)
	} else {
		r.rules = append(r.rules, placed)
	}
	return true
}

func (r *resolver) source(i int) string {
	if l := r.rules[i].Line; l != nil {
		return fmt.Sprintf("the same rule is at %s:%d", l.File, l.No)
	}
	return "the same rule is loaded"
}

func (r *resolver) find(rule *rules.Rule) int {
	if r.known[ruleKey(rule)] == 0 {
		return -1
	}
	for i, p := range r.rules {
		if p.Rule.Equal(rule) {
			return i
		}
	}
	return -1
}

func (r *resolver) remove(i int) {
	r.known[ruleKey(r.rules[i].Rule)]--
	r.rules = append(r.rules[:i:i], r.rules[i+1:]...)
}

func (r *resolver) deleteAll(key string) {
	if key == "" {
		r.target.Replaces = true
		r.rules = nil
		clear(r.known)
		return
	}
	var kept []Placed
	for _, p := range r.rules {
		if !hasKey(p.Rule, key) {
			kept = append(kept, p)
		} else {
			r.known[ruleKey(p.Rule)]--
		}
	}
	r.rules = kept
}

// hasKey matches as auditctl: the key may be a part of the rule's.
func hasKey(r *rules.Rule, key string) bool {
	for _, f := range r.Fields {
		if f.ID == rules.FieldKey && strings.Contains(f.Str, key) {
			return true
		}
	}
	return false
}

func (r *resolver) fail(l *Line, msg, hint string) {
	r.target.GoOn = r.target.GoOn && r.goOn
	r.target.Failures = append(r.target.Failures, Failure{l, msg, hint})
}

func (r *resolver) warn(l *Line, msg, hint string) {
	r.target.Warnings = append(r.target.Warnings, Warning{File: l.File, No: l.No, Msg: msg, Hint: hint})
}
