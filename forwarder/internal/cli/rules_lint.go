package cli

import (
	"fmt"
	"io"
	"os"

	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/rules/ruleset"
)

// review shows what load would complain about, without a kernel.
func (r *ruleFiles) review(f *ruleset.File) (failures, warnings int) {
	return r.complain(ruleset.Resolve(nil, f), false)
}

// complain prints the failures and warnings of a target and counts them. With refuse, a
// number that does not fit its 32 bits, which auditctl loads, counts as a failure.
func (r *ruleFiles) complain(target *ruleset.Target, refuse bool) (failures, warnings int) {
	for _, f := range target.Failures {
		io.WriteString(r.err, f.String())
	}
	list := append(target.Warnings, ruleset.Lint(target.Rules, r.lint)...)
	failures = len(target.Failures)
	for _, w := range list {
		if refuse && w.Wraps {
			failures++
			io.WriteString(r.err, w.Refused())
			continue
		}
		warnings++
		io.WriteString(r.err, w.String())
	}
	return failures, warnings
}

// lintFiles is rules lint.
func (r *ruleFiles) lintFiles(args []string) int {
	if len(args) == 0 {
		args = []string{r.dir}
	}
	lines, failures, warnings := 0, 0, 0
	for _, path := range args {
		f, w, err := r.readAny(path)
		if err != nil {
			fmt.Fprintln(r.err, err)
			failures++
			continue
		}
		for _, w := range w {
			io.WriteString(r.err, w.String())
		}
		bad, odd := r.complain(ruleset.Resolve(nil, f), true)
		lines, failures, warnings = lines+len(f.Lines), failures+bad, warnings+odd+len(w)
	}
	fmt.Fprintf(r.out, "%s, %s, %s\n", count(lines, "line"), count(failures, "error"), count(warnings, "warning"))
	if failures > 0 || r.strict && warnings > 0 {
		return 1
	}
	return 0
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// readAny reads a rule file, or a folder of them as augenrules would.
func (r *ruleFiles) readAny(path string) (*ruleset.File, []ruleset.Warning, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		m, err := ruleset.Merge(path)
		if err != nil {
			return nil, nil, err
		}
		return m.File(path, r.env), m.Warnings, nil
	}
	data, err := fsys.ReadRegular(path, ruleset.MaxFile)
	if err != nil {
		return nil, nil, err
	}
	return ruleset.Parse(path, data, r.env), nil, nil
}
