package completion

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/pkg/option"
)

// program is a command with flags, one with options of its own, and completion.
func program(out *bytes.Buffer) *cobra.Command {
	root := &cobra.Command{Use: "program", SilenceErrors: true, SilenceUsage: true}
	serve := &cobra.Command{Use: "serve", Run: func(*cobra.Command, []string) {}}
	serve.Flags().String("level", "", "")
	serve.Flags().String("config", "", "")
	serve.Flags().String("store", "", "")
	Flags(serve, map[string]option.Words{"level": option.These("low", "high\tall of it"), "config": option.Files, "store": option.Folders})
	own := option.Table{{Names: []string{"-k", "--key"}, Value: "K", Brief: "the key", Words: option.These("a=", "b\x1b[31m", "c")}}
	search := Help(&cobra.Command{Use: "search", DisableFlagParsing: true, ValidArgsFunction: By(own, option.Words{}), Run: func(*cobra.Command, []string) {}}, "the help of search\n")
	root.AddCommand(serve, search, Command(out, map[string]string{"ausearch": "search"}))
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetOut(out)
	root.SetErr(&bytes.Buffer{})
	return root
}

// run is what the program writes for a command line.
func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	root := program(&out)
	root.SetArgs(args)
	err := root.Execute()
	return out.String(), err
}

// What a shell's script asks for: the words there are, each on a line, and behind them
// how the shell is to go on (bits that cobra defines).
func TestWords(t *testing.T) {
	const (
		nothingElse = ":4"
		filesToo    = ":0"
		folders     = ":16"
		goOn        = ":6" // nothing else, and no space behind the word
	)
	for _, c := range []struct {
		line string
		want []string
	}{
		{"serve --level l", []string{"low", nothingElse}},
		{"serve --level h", []string{"high\tall of it", nothingElse}},
		{"serve --config x", []string{filesToo}},
		{"serve --store x", []string{folders}},
		{"search --k", []string{"--key\tthe key", nothingElse}},
		{"search -k a", []string{"a=", goOn}},
		{"search -k b", []string{nothingElse}}, // a terminal would obey what is in it
		{"search -k c", []string{"c", nothingElse}},
		{"completion f", []string{"bash", "zsh", "fish", nothingElse}}, // the script picks those that begin so
		{"completion bash au", []string{"ausearch", nothingElse}},
		{"completion bash ausearch ", []string{nothingElse}},
	} {
		out, err := run(t, append([]string{cobra.ShellCompRequestCmd}, strings.Split(c.line, " ")...)...)
		if err != nil {
			t.Errorf("%s: %v", c.line, err)
		}
		if diff := cmp.Diff(c.want, strings.Split(strings.TrimSpace(out), "\n")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.line, diff)
		}
	}
}

func TestHelpIsTheCommandsOwn(t *testing.T) {
	if out, err := run(t, "help", "search"); err != nil || out != "the help of search\n" {
		t.Errorf("%q, %v", out, err)
	}
}

// Each shell has a script; that of a stock name asks our program under its own name, for
// its own subcommand.
func TestScripts(t *testing.T) {
	for _, shell := range Shells {
		own, err := run(t, "completion", shell)
		if err != nil || strings.Contains(own, cobra.ShellCompRequestCmd+" search ") {
			t.Errorf("%s: %v", shell, err)
		}
		stock, err := run(t, "completion", shell, "ausearch")
		if err != nil || strings.Count(stock, "program "+cobra.ShellCompRequestCmd+" search ") != 1 || !strings.Contains(stock, "ausearch") {
			t.Errorf("%s, for the stock name: %v", shell, err)
		}
	}
	for _, c := range []struct{ line, want string }{
		{"completion", "say for which shell: bash, zsh, fish"},
		{"completion ksh", "say for which shell"},
		{"completion bash auditctl", `"auditctl" is no stock name of this program; there are ausearch`},
		{"completion bash ausearch more", `unknown argument "more"`},
	} {
		if _, err := run(t, strings.Fields(c.line)...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.line, err, c.want)
		}
	}
}

// A flag that there is not is a mistake in the program.
func TestUnknownFlag(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("words for a flag that there is not are taken")
		}
	}()
	Flags(&cobra.Command{Use: "x"}, map[string]option.Words{"none": option.Files})
}

// Words that are offered are a copy: a caller's list stays as it is.
func TestAnswerCopies(t *testing.T) {
	words := []string{"a\x07", "b"}
	got, _ := Answer(option.Found{Words: words})
	if !slices.Equal(got, []string{"b"}) || words[0] != "a\x07" {
		t.Errorf("%q of %q", got, words)
	}
}
