package cli

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/rules/ruleset"
)

// Where augenrules reads and writes.
const (
	rulesDir  = "/etc/audit/rules.d"
	rulesFile = "/etc/audit/audit.rules"
)

// ruleFiles is the applet forwarder rules, or augenrules: it works on rule files and
// compares them with the rules that the kernel holds.
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
			return command.Wrong(errors.New("say which: check, load, diff, lint or stats"))
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
	add("check", "Say whether the rule files differ from the file they were merged into", checkHelp, command.NoArgs,
		func([]string) int { return r.augenrules(true, false) })
	load := add("load [FILE]", "Merge the rule files and have the kernel hold exactly what they say, or what FILE says", loadHelp, command.UpTo(1),
		func(args []string) int {
			if len(args) == 1 {
				return r.loadFile(args[0])
			}
			return r.augenrules(false, true)
		})
	load.Flags().BoolVar(&r.dryRun, "dry-run", false, "show what would be done, and do nothing")
	add("diff [FILE]", "Show what the kernel holds otherwise than the rule files, or FILE, say", diffHelp, command.UpTo(1), r.diff)
	lint := add("lint [FILE|FOLDER…]", "Look for mistakes in rule files, without a kernel and without root", lintHelp, cobra.ArbitraryArgs, r.lintFiles)
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
