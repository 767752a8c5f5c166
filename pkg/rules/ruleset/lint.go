package ruleset

import (
	"io/fs"
	"os"

	"github.com/auditfleet/auditfleet/pkg/rules"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// LintEnv describes the machine for which Lint checks rules.
type LintEnv struct {
	Arch uint32                                 // the machine's AUDIT_ARCH_*
	Stat func(path string) (fs.FileInfo, error) // nil: paths are not looked at
	// Link returns the final target of a symbolic link, or false if path is not one; a
	// nil Link treats no path as a symbolic link.
	Link func(path string) (real string, ok bool)
}

// SystemLintEnv returns the LintEnv of this machine.
func SystemLintEnv() LintEnv {
	return LintEnv{Arch: tables.MachineArch(), Stat: os.Stat, Link: link}
}

// Lint warns of rules that the kernel accepts silently although they do not do what their
// author probably meant, or far more. list holds the rules as the kernel will hold them,
// in order. Rules without a line were in the kernel before: Lint compares others with
// them, but does not check them.
func Lint(list []Placed, env LintEnv) []Warning {
	l := newLinter(list, env)
	for i, p := range list {
		if p.Line == nil {
			continue
		}
		for _, w := range p.Line.Cmd.Warnings {
			l.out = append(l.out, asWarning(p.Line, w))
		}
		l.arch(p)
		l.paths(p)
		if why := never(p.Rule, env.Arch); why != "" {
			l.warn(p, "the rule never matches: "+why, "all conditions of a rule must hold at once: make two rules where either is meant")
			continue
		}
		l.pair(p)
		l.flood(p)
		l.shadowed(i)
	}
	return l.out
}

type linter struct {
	env     LintEnv
	list    []Placed
	out     []Warning
	exits   *conditionIndex // of the rules on system calls, without architecture and key
	matches *conditionIndex // of all, without key
}

func newLinter(list []Placed, env LintEnv) *linter {
	return &linter{
		env: env, list: list,
		exits: newConditionIndex(len(list), func(i int) ([]rules.Field, bool) {
			return conditions(list[i].Rule), list[i].Rule.List == rules.ListExit
		}),
		matches: newConditionIndex(len(list), func(i int) ([]rules.Field, bool) { return withoutKey(list[i].Rule), true }),
	}
}

func (l *linter) warn(p Placed, msg, hint string) {
	l.out = append(l.out, Warning{File: p.Line.File, No: p.Line.No, Msg: msg, Hint: hint})
}
