package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/rules/ruleset"
)

// Where augenrules reads and writes.
const (
	rulesDir  = "/etc/audit/rules.d"
	rulesFile = "/etc/audit/audit.rules"
)

// ruleFiles is forwarder rules, or augenrules: files of rules, and what the
// kernel holds of them.
type ruleFiles struct {
	*ctl
	name   string // what messages begin with, as augenrules' $0
	dir    string // of rule files
	file   string // what they are merged into
	dryRun bool
	strict bool // warnings make lint's exit code 1
	stock  bool // called as augenrules
	lint   ruleset.LintEnv
	now    func() time.Time
}

func newRuleFiles(std Stdio, version string) *ruleFiles {
	return &ruleFiles{
		ctl: newCtl(std, version), name: "forwarder rules", dir: rulesDir, file: rulesFile,
		lint: ruleset.SystemLintEnv(), now: time.Now,
	}
}

func newRulesCommand(std Stdio, version string) *cobra.Command {
	r := newRuleFiles(std, version)
	cmd := &cobra.Command{
		Use:   "rules",
		Short: "Rule files: merge, check, load, compare with the kernel",
		RunE: func(cmd *cobra.Command, args []string) error {
			return &usageError{errors.New("say which: check, load, diff, lint or stats")}
		},
	}
	cmd.PersistentFlags().StringVar(&r.dir, "rules-dir", r.dir, "folder of rule files")
	cmd.PersistentFlags().StringVar(&r.file, "file", r.file, "file they are merged into")
	add := func(use, short, long string, args cobra.PositionalArgs, run func(args []string) int) *cobra.Command {
		c := &cobra.Command{Use: use, Short: short, Long: long, Args: args, RunE: func(_ *cobra.Command, args []string) error {
			defer r.close()
			return coded(run(args))
		}}
		cmd.AddCommand(c)
		return c
	}
	add("check", "Say whether the rule files differ from the file they were merged into", checkHelp, usageArgs(cobra.NoArgs),
		func([]string) int { return r.augenrules(true, false) })
	load := add("load [FILE]", "Merge the rule files and have the kernel hold exactly what they say, or what FILE says", loadHelp, usageArgs(cobra.MaximumNArgs(1)),
		func(args []string) int {
			if len(args) == 1 {
				return r.loadFile(args[0])
			}
			return r.augenrules(false, true)
		})
	load.Flags().BoolVar(&r.dryRun, "dry-run", false, "show what would be done, and do nothing")
	add("diff [FILE]", "Show what the kernel holds otherwise than the rule files, or FILE, say", diffHelp, usageArgs(cobra.MaximumNArgs(1)), r.diff)
	lint := add("lint [FILE|FOLDER…]", "Look for mistakes in rule files, without a kernel and without root", lintHelp, usageArgs(cobra.ArbitraryArgs), r.lintFiles)
	lint.Flags().BoolVar(&r.strict, "strict", false, "exit with 1 for warnings, too")
	completion.Flags(cmd, map[string]option.Words{"rules-dir": option.Folders, "file": option.Files})
	for _, c := range cmd.Commands() {
		if c.Name() != "check" {
			c.ValidArgsFunction = completion.By(nil, option.Files)
		}
	}
	cmd.AddCommand(newRuleStatsCommand(r, std))
	return cmd
}

// coded is an exit code as an error.
func coded(code int) error {
	if code == 0 {
		return nil
	}
	return exitCode(code)
}

func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return &usageError{err}
		}
		return nil
	}
}

const (
	checkHelp = `Compares what the rule files come to with the merged file, as augenrules --check:
"No change", or "Rules have changed and should be updated"; the exit code is 0
either way. Mistakes in the rules are shown as by lint.`
	loadHelp = `Merges the rule files in natural order as augenrules --load (-D first, then -b and
-f, -e last), writes the merged file when it differs (the one before is kept as
FILE.prev), and has the kernel hold exactly those rules.

The load is all or nothing: when a line is wrong nothing is changed, unless -i or
-c stands before it. Rules that the kernel holds already stay; new ones are
added before old ones are deleted, so that at no moment less is watched than
before and after. The rules are read back and compared; on any failure the rules
and settings from before are put back.`
	diffHelp = `Shows, as load --dry-run, rules to add (+), delete (-) and move (~), and settings
that differ. Exit code 0: no difference, 1: some, 2: trouble.`
	lintHelp = `Reads rule files (by default the folder of them) and shows lines that can't be
loaded, and rules that will not do what they say: half a b32/b64 pair, after a
wider rule, twice, on a path that is not there, firing on every system call.
Exit code 1 when a line can't be loaded.`
)

var augenrulesOptions = option.Table{
	{Names: []string{"--check"}, Brief: "say whether the rule files have changed"},
	{Names: []string{"--load"}, Brief: "merge the rule files and load them"},
}

// newAugenrulesCommand is the stock name as a subcommand, for completion to ask.
func newAugenrulesCommand(std Stdio, version string) *cobra.Command {
	return &cobra.Command{
		Use: "augenrules", Short: "rules check and rules load with the options of augenrules", Hidden: true, DisableFlagParsing: true,
		ValidArgsFunction: completion.By(augenrulesOptions, option.Words{}),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runAsAugenrules(cmd.Context(), "augenrules", args, std, version)
		},
	}
}

// runAsAugenrules takes the stock script's options.
func runAsAugenrules(_ context.Context, argv0 string, args []string, std Stdio, version string) error {
	r := newRuleFiles(std, version)
	defer r.close()
	r.stock, r.name = true, argv0
	if !strings.Contains(argv0, "/") { // found through PATH: a script's $0 is its path
		if path, err := exec.LookPath(argv0); err == nil {
			r.name = path
		}
	}
	check, load := false, false
	for _, a := range args {
		if augenrulesOptions.Find(a) == nil {
			fmt.Fprintf(std.Out, "Usage: %s [--check|--load]\n", r.name)
			return exitCode(1)
		}
		check, load = check || a == "--check", load || a == "--load"
	}
	return coded(r.augenrules(check, load))
}

// augenrules merges the rule files and, with load, loads the result. What it
// says on standard output, and its exit codes, are the stock script's; what is
// wrong with the rules is said on standard error.
func (r *ruleFiles) augenrules(check, load bool) int {
	m, err := ruleset.Merge(r.dir)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			fmt.Fprintln(r.err, err)
		}
		fmt.Fprintf(r.out, "%s: No rules directory - %s\n", r.name, r.dir)
		if load {
			r.loadFile(r.file)
		}
		return 1
	}
	for _, w := range m.Warnings {
		io.WriteString(r.err, w.String())
	}
	f := m.File(r.file, r.env)
	old, err := fsys.ReadRegular(r.file, ruleset.MaxFile)
	if err == nil && string(old) == string(m.Data) {
		fmt.Fprintf(r.out, "%s: No change\n", r.name)
		if check {
			r.review(f)
		}
		if load {
			return r.load(f)
		}
		return 0
	}
	switch {
	case check:
		fmt.Fprintf(r.out, "%s: Rules have changed and should be updated\n", r.name)
		r.review(f)
		return 0
	case r.dryRun:
		fmt.Fprintf(r.out, "%s would be written\n", r.file)
		return r.load(f)
	}
	if err := r.install(m.Data); err != nil {
		fmt.Fprintln(r.err, err)
		return 1
	}
	if load {
		return r.load(f)
	}
	return 0
}

// review shows what load would complain about, without a kernel.
func (r *ruleFiles) review(f *ruleset.File) (failures, warnings int) {
	return r.complain(ruleset.Resolve(nil, f), false)
}

// complain prints what is wrong with a target and counts it. refuse makes errors
// of numbers that wrap, which auditctl loads.
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

// install replaces the merged file at once: a reader sees the old or the new
// one, whole. The old one stays as .prev.
func (r *ruleFiles) install(data []byte) error {
	path := r.file
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real // a link keeps pointing to where the file is
	}
	old, err := fsys.ReadRegular(path, ruleset.MaxFile)
	if err == nil {
		err = fsys.ReplaceShared(path+".prev", old, 0o640, true)
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err == nil {
		err = fsys.ReplaceShared(path, data, 0o640, true)
	}
	if err != nil {
		return fmt.Errorf("write rules: %w", err)
	}
	if restorecon := "/sbin/restorecon"; isExecutable(restorecon) {
		if out, err := exec.Command(restorecon, "-F", path).CombinedOutput(); err != nil {
			fmt.Fprintf(r.err, "%s -F %s: %v: %s\n", restorecon, path, err, out)
		}
	}
	return nil
}

func isExecutable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&0o111 != 0
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
