// Package command says what is wrong with a command line: in the same words for every
// command of both programs, with the command's name and where its help is. The programs'
// cli packages import it.
package command

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/auditfleet/auditfleet/pkg/nearest"
)

// The exit codes after which a daemon's unit does not start it again (RestartPreventExitStatus):
// the next start would end in the same way.
const (
	ExitUsage  = 2 // a wrong command line, but under the stock tools' names
	ExitConfig = 6 // a configuration that is refused, as of stock auditd and audisp-remote
)

// UsageError is returned for a command line that is wrong.
type UsageError struct {
	Path string // the command, such as "collector verify"; empty: not known yet
	Err  error
}

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

// Wrong returns err as a UsageError of the command that returns it.
func Wrong(err error) error { return &UsageError{Err: err} }

// Wrongf is Wrong(fmt.Errorf(…)).
func Wrongf(format string, args ...any) error { return Wrong(fmt.Errorf(format, args...)) }

// ConfigError is returned for a configuration that is refused: what a file has, that it is not there,
// or who may write it. What may be better soon (a name that is not resolved, a port in use) is none.
type ConfigError struct{ Err error }

func (e *ConfigError) Error() string { return e.Err.Error() }
func (e *ConfigError) Unwrap() error { return e.Err }

// Refused returns err as a ConfigError, but for nil and a UsageError, which stay what they are.
func Refused(err error) error {
	var wrong *UsageError
	if err == nil || errors.As(err, &wrong) {
		return err
	}
	return &ConfigError{err}
}

// IsRefused reports whether an error is, or has in it, a ConfigError.
func IsRefused(err error) bool {
	var refused *ConfigError
	return errors.As(err, &refused)
}

// Report writes a usage error to w, with where the help is. program is its name where the
// command is not known. It reports whether err is one.
func Report(w io.Writer, program string, err error) bool {
	var wrong *UsageError
	if !errors.As(err, &wrong) {
		return false
	}
	if wrong.Path != "" {
		program = wrong.Path
	}
	fmt.Fprintf(w, "%s: %v\n%s", program, err, Try(program))
	return true
}

// Try is the line that says where the help of a command is.
func Try(path string) string { return fmt.Sprintf("Try '%s --help'.\n", path) }

// Prepare makes the command line's errors of root, and of every command below it, those of
// this package. It is called when all commands have been added.
func Prepare(root *cobra.Command) {
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &UsageError{cmd.CommandPath(), flagError(cmd, err)}
	})
	help := helpCommand()
	prepare(help)
	root.SetHelpCommand(help)
	prepare(root)
}

func prepare(cmd *cobra.Command) {
	cmd.Flags().VisitAll(once)
	cmd.PersistentFlags().VisitAll(once)
	if cmd.Args == nil && !cmd.DisableFlagParsing {
		cmd.Args = NoArgs
	}
	if args := cmd.Args; args != nil {
		cmd.Args = func(cmd *cobra.Command, given []string) error { return named(cmd, args(cmd, given), true) }
	}
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error { return named(cmd, run(cmd, args), false) }
	}
	for _, c := range cmd.Commands() {
		prepare(c)
	}
}

// named makes a usage error that of a command; with always, any error is one.
func named(cmd *cobra.Command, err error, always bool) error {
	var wrong *UsageError
	switch {
	case err == nil:
	case errors.As(err, &wrong):
		if wrong.Path == "" {
			wrong.Path = cmd.CommandPath()
		}
	case always:
		return &UsageError{cmd.CommandPath(), err}
	}
	return err
}

// NoArgs refuses arguments. Of a command that has others below it, they are taken for
// their names.
func NoArgs(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case cmd.HasAvailableSubCommands():
		return unknown(cmd, args[0])
	}
	return fmt.Errorf("unknown argument %q", args[0])
}

func unknown(parent *cobra.Command, name string) error {
	var names []string
	for _, c := range parent.Commands() {
		if c.IsAvailableCommand() || c.Name() == "help" {
			names = append(names, c.Name())
		}
	}
	return fmt.Errorf("there is no command %q%s", name, nearest.Hint(name, names))
}

// Args wants one argument for each of the names, which the message has.
func Args(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return fmt.Errorf("%s is missing", names[len(args)])
		}
		return upTo(len(names), args)
	}
}

// UpTo takes at most n arguments.
func UpTo(n int) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error { return upTo(n, args) }
}

func upTo(n int, args []string) error {
	if len(args) > n {
		return fmt.Errorf("unknown argument %q", args[n])
	}
	return nil
}

// flagError is an error about a flag in our words.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var lacks *pflag.ValueRequiredError
	var wrong *pflag.InvalidValueError
	var syntax *pflag.InvalidSyntaxError
	switch {
	case errors.As(err, &unknown):
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				names = append(names, "--"+f.Name)
			}
		})
		if group := unknown.GetSpecifiedShortnames(); group != "" {
			return fmt.Errorf("there is no flag -%s", unknown.GetSpecifiedName())
		}
		name := "--" + unknown.GetSpecifiedName()
		return fmt.Errorf("there is no flag %s%s", name, nearest.Hint(name, names))
	case errors.As(err, &lacks):
		return fmt.Errorf("--%s: a value is missing", lacks.GetFlag().Name)
	case errors.As(err, &wrong):
		return fmt.Errorf("--%s: %w", wrong.GetFlag().Name, valueError(wrong))
	case errors.As(err, &syntax):
		return fmt.Errorf("%s is no flag", syntax.GetSpecifiedFlag())
	}
	return err
}

// valueError says what a value should have been, where only the library knows the flag.
func valueError(err *pflag.InvalidValueError) error {
	wants := map[string]string{
		"bool": "neither true nor false", "int": "no number", "uint": "no number", "int64": "no number", "uint64": "no number",
		"duration": "no duration such as 30s, 5m or 2h",
	}[err.GetFlag().Value.Type()]
	cause := err.Unwrap()
	var number *strconv.NumError
	if wants == "" || !errors.As(cause, &number) && !strings.HasPrefix(cause.Error(), "time: ") {
		return cause
	}
	return fmt.Errorf("%q is %s", err.GetValue(), wants)
}

// helpCommand is "help [COMMAND]".
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Show the help of a command",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			var names []string
			if parent, _, err := cmd.Root().Find(args); err == nil {
				for _, c := range parent.Commands() {
					if c.IsAvailableCommand() {
						names = append(names, c.Name()+"\t"+c.Short)
					}
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		Args: func(cmd *cobra.Command, args []string) error {
			at := cmd.Root()
			for _, name := range args {
				next, _, err := at.Find([]string{name})
				if err != nil || next == at {
					return unknown(at, name)
				}
				at = next
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			about, _, err := cmd.Root().Find(args)
			if err != nil {
				return err
			}
			return about.Help()
		},
	}
}
