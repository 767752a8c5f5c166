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

	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/rules/ruleset"
	"github.com/spf13/cobra"
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
