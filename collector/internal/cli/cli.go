// Package cli is the collector's command line: each command has a file. The commands
// search and report have the grammar and the exit codes of ausearch and aureport; the
// others are our own. Only collector/main.go may import it.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/pkg/built"
	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/service"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// Stdio has the streams of a command. Out and Err may be terminals: Run guards what is
// written to them.
type Stdio struct {
	In       *os.File
	Out, Err io.Writer
}

// program is one run of the program: what all commands share.
type program struct {
	version string
	words   []string // of the command line, without the program's name
	stdio   Stdio
	code    int // the exit code, where a command has set one

	// fleetFiles says that files hold events of many hosts, so that ids have the names they
	// have in a store. Only a test that compares the two sets it.
	fleetFiles bool
}

// errReported is returned by a command that has written what is wrong itself.
var errReported = errors.New("reported")

// coded returns the error of a command that ends with an exit code, and has said why.
func (p *program) coded(code int) error {
	if p.code = code; code != 0 {
		return errReported
	}
	return nil
}

// Run runs the command line args, the program's name first, and returns the exit
// code. Under the name ausearch the program is `collector search`, and so on.
func Run(ctx context.Context, version string, args []string, stdio Stdio) int {
	stdio.Out, stdio.Err = terminal.Guard(stdio.Out), terminal.Guard(stdio.Err)
	if len(args) == 0 {
		args = []string{"collector"}
	}
	if f, ok := terminal.File(stdio.Err); ok && len(args) > 1 && args[1] == "serve" && service.IsJournal(f) {
		stdio.Err = service.Journal(stdio.Err)
	}
	p := &program{version: version, stdio: stdio}
	p.words = args[1:]
	// Commands with the stock grammar are not cobra's to parse; this saves time, too.
	if filepath.Base(args[0]) == "ausearch" {
		return p.searchAs(ctx, args[1:], true)
	}
	if len(args) > 1 && args[1] == "search" {
		return p.search(ctx, args[2:])
	}
	if filepath.Base(args[0]) == "aureport" {
		return p.reportAs(ctx, args[1:], true)
	}
	if len(args) > 1 && args[1] == "report" {
		return p.report(ctx, args[2:])
	}
	switch filepath.Base(args[0]) {
	case "aulast":
		return p.last(ctx, args[1:], true)
	case "aulastlog":
		return p.lastlog(ctx, args[1:], true)
	}
	if len(args) > 1 && args[1] == "last" {
		return p.last(ctx, args[2:], false)
	}
	if len(args) > 1 && args[1] == "lastlog" {
		return p.lastlog(ctx, args[2:], false)
	}
	if len(args) > 1 && args[1] == "coverage" {
		return p.coverage(ctx, args[2:])
	}
	if len(args) > 1 && args[1] == "evidence" {
		return p.evidence(ctx, args[2:])
	}
	root := p.root()
	root.SetArgs(args[1:])
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
	case command.Report(stdio.Err, "collector", err):
		p.code = command.ExitUsage
	case !errors.Is(err, errReported):
		fmt.Fprintf(stdio.Err, "collector: %v\n", err)
	}
	switch {
	case err == nil || p.code != 0:
	case command.IsRefused(err):
		p.code = command.ExitConfig
	default:
		p.code = 1
	}
	return p.code
}

// root returns the command that has all others below it.
func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "collector",
		Short: "Receive, store and search the audit records of a fleet",
		Long:  "collector receives the audit records of a fleet of hosts, from forwarders and from stock\naudisp-remote alike, stores them, and answers who did what, where and when.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			_ = cmd.Help() // to where cobra was told to write
			p.code = command.ExitUsage
			return errReported
		},
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.Version = p.versionText()
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetOut(p.stdio.Out)
	root.SetErr(p.stdio.Err)
	root.AddCommand(p.serveCommand(), p.searchCommand(), p.reportCommand(), p.lastCommand(), p.lastlogCommand(), p.hostsCommand(), p.holdCommand(), p.coverageCommand(), p.evidenceCommand(), p.alertsCommand(), p.sealCommand(), p.verifyCommand(), p.salvageCommand(), p.backupCommand(), p.importCommand(), p.compactCommand(), p.telling(p.caCommand()), p.telling(p.tokenCommand()), p.versionCommand(),
		completion.Command(p.stdio.Out, map[string]string{"ausearch": "search", "aureport": "report", "aulast": "last", "aulastlog": "lastlog"}))
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	command.Prepare(root)
	return root
}

func (p *program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print version, commit, date and the version of Go",
		Args:  command.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			fmt.Fprintln(p.stdio.Out, p.versionText())
			return nil
		},
	}
}

// versionText has the version alone on its first line, for scripts.
func (p *program) versionText() string {
	return built.Text("collector " + p.version + "\n" + built.Go())
}
