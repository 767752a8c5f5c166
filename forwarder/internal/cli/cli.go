// Package cli implements the forwarder's command line. Each applet has a file of its own,
// or several files whose names begin with its name. The subcommand, or the stock name by
// which the program was called, selects the applet. Only forwarder/main.go may import it.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/forwarder/internal/trace"
	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/service"
	"github.com/auditfleet/auditfleet/pkg/syslog"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// Stdio holds the streams that an applet reads and writes.
type Stdio struct {
	In  *os.File
	Out io.Writer
	Err io.Writer

	signals chan os.Signal // of a daemon, caught before anything else is done; nil: not caught yet
}

// Exit codes of our own applets; those that stand in for a stock tool have its.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = command.ExitUsage
	exitLeft  = 3 // input drained, but not all of it acknowledged
	// A configuration file that is refused, under every name: stock's, too.
	exitConfig = command.ExitConfig
)

// Run runs the applet that args selects and returns its exit code. args[0] is the name by
// which the program was called.
func Run(ctx context.Context, args []string, std Stdio, version string) int {
	if code, ok := trace.Helper(args); ok {
		return code
	}
	std.Out, std.Err = terminal.Guard(std.Out), terminal.Guard(std.Err)
	name, argv0 := "forwarder", ""
	if len(args) > 0 {
		argv0 = args[0]
		name = filepath.Base(argv0)
		args = args[1:]
	}
	if isDaemon(name, args) {
		std.signals = catchSignals()
		defer signal.Stop(std.signals)
		std.Err = heard(std.Err, args, syslog.Socket)
		if f, ok := terminal.File(std.Err); ok && service.IsJournal(f) {
			std.Err = service.Journal(std.Err)
		}
	}
	var err error
	switch name {
	case "auditd":
		err = runAsAuditd(ctx, args, std, version)
	case "audisp-remote":
		err = runAsRemote(ctx, args, std, version)
	case "auditctl":
		err = runCtl(ctx, args, std, version)
	case "augenrules":
		err = runAsAugenrules(ctx, argv0, args, std, version)
	case "autrace":
		err = runTrace(ctx, name, args, std, version)
	case "ausearch":
		err = runSearch(ctx, args, std, version, true)
	case "aureport":
		err = runReport(ctx, args, std, version, true)
	case "aulast":
		err = runLast(ctx, args, std, true)
	case "aulastlog":
		err = runLastlog(ctx, args, std, true)
	case "ausyscall":
		err = runSyscall(args, std, true)
	default:
		name = "forwarder"
		err = runForwarder(ctx, args, std, version)
	}
	if err == nil {
		return exitOK
	}
	var code exitCode
	if errors.As(err, &code) {
		return int(code)
	}
	if command.Report(std.Err, name, err) {
		return exitUsage
	}
	fmt.Fprintf(std.Err, "%s: %v\n", name, err)
	switch {
	case isLeft(err):
		return exitLeft
	case command.IsRefused(err):
		return exitConfig
	}
	return exitError
}

func runForwarder(ctx context.Context, args []string, std Stdio, version string) error {
	root := newRunCommand(std, version)
	run := newRunCommand(std, version)
	run.Use = "run [flags]"
	root.Use = "forwarder [run] [flags]"
	root.AddCommand(run, newCtlCommand(std, version), newRulesCommand(std, version), newTraceCommand(std, version), newDoctorCommand(std), newWitnessCommand(std), newEnrollCommand(std), newImportCommand(std, args[min(1, len(args)):]), newSearchCommand(std, version), newReportCommand(std, version), newLastCommand(std), newLastlogCommand(std), newSyscallCommand(std), newVersionCommand(std, version),
		newAugenrulesCommand(std, version), completion.Command(std.Out, map[string]string{
			"auditctl": "ctl", "augenrules": "augenrules", "autrace": "trace", "ausearch": "search", "aureport": "report",
			"aulast": "last", "aulastlog": "lastlog", "ausyscall": "syscall",
		}))
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	root.CompletionOptions.DisableDefaultCmd = true
	root.Version = versionText(version)
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetOut(std.Out)
	root.SetErr(std.Err)
	root.SetArgs(args)
	command.Prepare(root)
	return root.ExecuteContext(ctx)
}
