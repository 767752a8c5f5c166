// Package completion provides shell completion for a cobra command, some of whose
// subcommands parse their own options by tables of pkg/option. The programs' cli packages
// import it.
package completion

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// Shells are the shells for which Command prints a script.
var Shells = []string{"bash", "zsh", "fish"}

// By returns the completion of a command that parses its options by a table. It offers
// the table's options and their values, and rest where the command expects no option.
func By(table option.Table, rest option.Words) cobra.CompletionFunc {
	return func(_ *cobra.Command, before []string, typed string) ([]string, cobra.ShellCompDirective) {
		return Answer(table.Complete(before, typed, rest))
	}
}

// Help sets the help of a command that parses its own options to text. It returns cmd.
func Help(cmd *cobra.Command, text string) *cobra.Command {
	cmd.SetHelpFunc(func(cmd *cobra.Command, _ []string) { _, _ = io.WriteString(cmd.OutOrStdout(), text) }) // as cobra's own
	return cmd
}

// Answer converts the result of option.Table.Complete to cobra's words and directive.
func Answer(f option.Found) ([]string, cobra.ShellCompDirective) {
	how := cobra.ShellCompDirectiveNoFileComp
	switch {
	case f.Folders && len(f.Words) == 0:
		return nil, cobra.ShellCompDirectiveFilterDirs
	case f.Files:
		how = cobra.ShellCompDirectiveDefault
	}
	if f.NoSpace {
		how |= cobra.ShellCompDirectiveNoSpace
	}
	return slices.DeleteFunc(slices.Clone(f.Words), unsafe), how
}

// unsafe reports whether a word, such as the name of a file or an account, holds bytes that a
// terminal would obey: the shell prints the word as it is.
func unsafe(word string) bool {
	word = strings.ReplaceAll(word, "\t", " ") // a tab stands before the word's description
	return terminal.Clean(word) != word
}

// Flags sets the completions for values of a command's flags: words, files or folders. It
// panics on a flag that the command does not have; that is a programming error, which
// every start of the program would show.
func Flags(cmd *cobra.Command, words map[string]option.Words) {
	for name, w := range words {
		fn := func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
			return Answer(option.Table{{Names: []string{"--" + name}, Value: name, Words: w}}.Complete([]string{"--" + name}, typed, option.Words{}))
		}
		if err := cmd.RegisterFlagCompletionFunc(name, fn); err != nil {
			panic(err)
		}
	}
}

// Command returns a command that prints completion scripts for the root command to which
// it is added. stock maps each stock tool's name that the program answers to onto the
// subcommand that implements it.
func Command(out io.Writer, stock map[string]string) *cobra.Command {
	names := make([]string, 0, len(stock))
	for name := range stock {
		names = append(names, name)
	}
	slices.Sort(names)
	return &cobra.Command{
		Use:   "completion bash|zsh|fish [NAME]",
		Short: "Print a completion script for a shell",
		Long: `Print a script that completes commands, options and values in a shell. With NAME, the script completes
the stock tool that the program answers to when it is called so: ` + strings.Join(names, ", ") + `.

In the present shell:
  bash  source <(PROGRAM completion bash)      (needs the package bash-completion)
  zsh   source <(PROGRAM completion zsh)       (after compinit)
  fish  PROGRAM completion fish | source
make install installs the scripts where the shells find them.`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0 || !slices.Contains(Shells, args[0]):
				return fmt.Errorf("say for which shell: %s", strings.Join(Shells, ", "))
			case len(args) > 2:
				return fmt.Errorf("unknown argument %q", args[2])
			case len(args) == 2 && stock[args[1]] == "":
				return fmt.Errorf("%q is no stock name of this program; there are %s", args[1], strings.Join(names, ", "))
			}
			return nil
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			words := [][]string{Shells, names, nil}[min(len(args), 2)]
			return cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)(nil, args, typed)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return write(out, cmd.Root(), args[0])
			}
			return writeStock(out, cmd.Root().Name(), args[0], args[1], stock[args[1]])
		},
	}
}

// write writes the script by which a shell completes root.
func write(out io.Writer, root *cobra.Command, shell string) error {
	switch shell {
	case "bash":
		return root.GenBashCompletionV2(out, true)
	case "zsh":
		return root.GenZshCompletion(out)
	}
	return root.GenFishCompletion(out, true)
}

// requests has, by shell, how its script runs the program of the command line for the words.
var requests = map[string]string{
	"bash": "${words[0]} " + cobra.ShellCompRequestCmd + " ",
	"zsh":  "${words[1]} " + cobra.ShellCompRequestCmd + " ",
	"fish": "$args[1] " + cobra.ShellCompRequestCmd + " ",
}

// writeStock writes the script of a stock name. It asks our program under its own name for the
// words, not the tool on the command line: that may be the stock tool, which has no words to
// offer, and of which autrace would run its arguments.
func writeStock(out io.Writer, program, shell, name, subcommand string) error {
	var script bytes.Buffer
	if err := write(&script, &cobra.Command{Use: name}, shell); err != nil {
		return err
	}
	ask := requests[shell]
	if bytes.Count(script.Bytes(), []byte(ask)) != 1 {
		return fmt.Errorf("completion: the script for %s does not ask as it used to (%q)", shell, ask)
	}
	text := strings.Replace(script.String(), ask, program+" "+cobra.ShellCompRequestCmd+" "+subcommand+" ", 1)
	_, err := io.WriteString(out, text)
	return err
}
