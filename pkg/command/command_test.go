package command

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// try runs a program with two commands and returns what it says of args.
func try(t *testing.T, args ...string) (said string, since time.Duration) {
	t.Helper()
	root := &cobra.Command{Use: "prog", RunE: func(*cobra.Command, []string) error { return nil }}
	copying := &cobra.Command{Use: "copy", Args: Args("FROM", "TO"), RunE: func(_ *cobra.Command, args []string) error {
		if args[0] == "-" {
			return Wrongf("%s is no place", args[0])
		}
		return errors.New("disk full")
	}}
	copying.Flags().Int("top", 1, "")
	copying.Flags().Bool("quick", false, "")
	copying.Flags().StringArray("also", nil, "")
	copying.Flags().Var(Duration{&since}, "since", "")
	sub := &cobra.Command{Use: "show", Args: UpTo(1), RunE: func(*cobra.Command, []string) error { return nil }}
	parent := &cobra.Command{Use: "disk", RunE: func(*cobra.Command, []string) error { return nil }}
	parent.AddCommand(sub)
	root.AddCommand(copying, parent)
	Prepare(root)
	var out bytes.Buffer
	root.SetArgs(args)
	root.SetOut(&out)
	err := root.Execute()
	if err == nil {
		return out.String(), since
	}
	if !Report(&out, "prog", err) {
		out.WriteString(err.Error())
	}
	return out.String(), since
}

func TestWords(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"", ""},
		{"cpy", "prog: there is no command \"cpy\": did you mean copy?\nTry 'prog --help'.\n"},
		{"help cpy", "prog help: there is no command \"cpy\": did you mean copy?\nTry 'prog help --help'.\n"},
		{"help disk shw", "prog help: there is no command \"shw\": did you mean show?\nTry 'prog help --help'.\n"},
		{"copy", "prog copy: FROM is missing\nTry 'prog copy --help'.\n"},
		{"copy a", "prog copy: TO is missing\nTry 'prog copy --help'.\n"},
		{"copy a b c", "prog copy: unknown argument \"c\"\nTry 'prog copy --help'.\n"},
		{"copy - b", "prog copy: - is no place\nTry 'prog copy --help'.\n"},
		{"copy a b", "disk full"},
		{"copy a b --tops 1", "prog copy: there is no flag --tops: did you mean --top?\nTry 'prog copy --help'.\n"},
		{"copy a b -x", "prog copy: there is no flag -x\nTry 'prog copy --help'.\n"},
		{"copy a b --top", "prog copy: --top: a value is missing\nTry 'prog copy --help'.\n"},
		{"copy a b --top 1e3", "prog copy: --top: \"1e3\" is no number\nTry 'prog copy --help'.\n"},
		{"copy a b --quick=so", "prog copy: --quick: \"so\" is neither true nor false\nTry 'prog copy --help'.\n"},
		{"copy a b --since x", "prog copy: --since: \"x\" is not a time such as 90s, 5m, 1h30m, 2d or 1w\nTry 'prog copy --help'.\n"},
		{"copy a b --=x", "prog copy: --=x is no flag\nTry 'prog copy --help'.\n"},
		{"copy a b --top 1 --top 2", "prog copy: --top: given twice, as \"1\" and as \"2\": give it once\nTry 'prog copy --help'.\n"},
		{"copy a b --top 2 --top 2", "disk full"},
		{"copy a b --also 1 --also 2", "disk full"},
		{"disk shw", "prog disk: there is no command \"shw\": did you mean show?\nTry 'prog disk --help'.\n"},
		{"disk show a b", "prog disk show: unknown argument \"b\"\nTry 'prog disk show --help'.\n"},
	} {
		if got, _ := try(t, strings.Fields(c.args)...); got != c.want {
			t.Errorf("%s: %q\nwant %q", c.args, got, c.want)
		}
	}
	if got, _ := try(t, "help", "disk", "show"); !strings.Contains(got, "prog disk show") {
		t.Errorf("help: %q", got)
	}
	if _, since := try(t, "copy", "a", "b", "--since", "2d"); since != 48*time.Hour {
		t.Errorf("--since 2d: %v", since)
	}
}
