package cli

import (
	"fmt"
	"io"

	"github.com/auditfleet/auditfleet/pkg/rules"
	"github.com/auditfleet/auditfleet/pkg/rules/ruleset"
)

// show prints what would change.
func (l *loading) show(plan *ruleset.Plan) int {
	l.printDiff(plan)
	if l.failed > 0 && l.target.ExitFail {
		return 1
	}
	return 0
}

func (l *loading) printDiff(plan *ruleset.Plan) (differs bool) {
	print := func(sign string, list []*rules.Rule) {
		for _, r := range list {
			differs = true
			fmt.Fprintln(l.out, sign, r.Text(l.env, rules.TextOptions{}))
		}
	}
	print("-", plan.Deleted)
	print("~", plan.Moved)
	print("+", plan.Added)
	for _, s := range append(append([]ruleset.Setting(nil), l.target.Before...), l.target.After...) {
		if text := l.setting(&s.Op); text != "" {
			differs = true
			fmt.Fprintln(l.out, "!", text)
		}
	}
	if !differs {
		fmt.Fprintf(l.out, "no difference: %s\n", count(len(l.target.Rules), "rule"))
	}
	return differs
}

// setting says what an operation would change, "" when it is so already or is no
// lasting setting.
func (l *loading) setting(op *rules.Op) string {
	var (
		now  uint32
		name string
	)
	switch op.Kind {
	case rules.OpSetEnabled:
		now, name = l.status.Enabled, "enabled"
	case rules.OpSetFailure:
		now, name = l.status.Failure, "failure"
	case rules.OpSetRate:
		now, name = l.status.RateLimit, "rate_limit"
	case rules.OpSetBacklog:
		now, name = l.status.BacklogLimit, "backlog_limit"
	case rules.OpSetBacklogWait:
		now, name = l.status.BacklogWaitTime, "backlog_wait_time"
	default:
		return ""
	}
	if now == op.Value {
		return ""
	}
	return fmt.Sprintf("%s %d is to be %d", name, now, op.Value)
}

// diff compares what the kernel holds with the rule files, or with one file.
func (r *ruleFiles) diff(args []string) int {
	path := r.dir
	if len(args) == 1 {
		path = args[0]
	}
	f, warnings, err := r.readAny(path)
	if err != nil {
		fmt.Fprintln(r.err, err)
		return 2
	}
	for _, w := range warnings {
		io.WriteString(r.err, w.String())
	}
	l, ok := r.prepare(f)
	if !ok {
		return 2
	}
	for _, failure := range l.target.Failures {
		io.WriteString(r.err, failure.String())
	}
	if len(l.target.Failures) > 0 && !l.target.GoOn {
		return 2
	}
	plan, ok := l.plan()
	if !ok {
		return 2
	}
	if l.printDiff(plan) {
		return 1
	}
	return 0
}
