package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// syscallOptions are those of ausyscall, and --help.
var syscallOptions = option.Table{
	{Names: []string{"--dump"}, Brief: "list all system calls of the architecture"},
	{Names: []string{"--exact"}, Brief: "the name is whole, not a part of one"},
	{Names: []string{"-h", "--help"}, Brief: "show all options"},
}

const syscallUsageLine = "usage: ausyscall [arch] name | number | --dump | --exact\n"

const syscallUsage = `Translate names and numbers of system calls.

  forwarder syscall [ARCH] NAME      the calls whose names contain NAME, and their numbers
  forwarder syscall [ARCH] NUMBER    the call's name
  --exact     the name is whole: print its number only
  --dump      list all system calls
  -h, --help  this

ARCH is an architecture as uname -m says it, or b32 or b64 of this machine, which is meant
without one.
`

// syscallWords offers architectures and the names of this machine's system calls.
var syscallWords = option.Words{List: func([]string, string) []string {
	words := []string{"b32", "b64"}
	for _, name := range tables.ArchNames() {
		if arch, _ := tables.ArchByName(name); tables.Syscalls(arch) != nil {
			words = append(words, name)
		}
	}
	for _, nr := range tables.Syscalls(tables.MachineArch()) {
		name, _ := tables.SyscallName(tables.MachineArch(), nr)
		words = append(words, name)
	}
	return words
}}

func newSyscallCommand(std Stdio) *cobra.Command {
	return completion.Help(&cobra.Command{
		Use:                "syscall [ARCH] NAME | NUMBER | --dump",
		Short:              "Translate names and numbers of system calls, in ausyscall's words",
		DisableFlagParsing: true,
		ValidArgsFunction:  completion.By(syscallOptions, syscallWords),
		RunE: func(_ *cobra.Command, args []string) error {
			return runSyscall(args, std, false)
		},
	}, syscallUsage)
}

// runSyscall is ausyscall, under the stock name or ours. Errors are 1 there, and 2 under
// our name; 1 is a system call that there is not.
func runSyscall(args []string, std Stdio, stock bool) error {
	for _, word := range args {
		if !stock && (word == "-h" || word == "--help") {
			_, err := io.WriteString(std.Out, syscallUsage)
			return err
		}
	}
	ask, err := parseSyscall(args, std.Err)
	switch {
	case errors.Is(err, errDeprecated):
		return exitCode(errorCode(stock))
	case err != nil:
		fmt.Fprintf(std.Err, "%v", err)
		if !stock {
			fmt.Fprint(std.Err, command.Try("forwarder syscall"))
		}
		return exitCode(errorCode(stock))
	}
	out := bufio.NewWriter(std.Out)
	found := ask.answer(out)
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if !found {
		what := ask.name
		if !ask.named {
			what = strconv.Itoa(int(ask.number))
		}
		fmt.Fprintf(std.Err, "Unknown syscall %s using %s lookup table\n", what, ask.archName())
		return exitCode(1)
	}
	return nil
}

// syscallAsk is what the words ask for.
type syscallAsk struct {
	arch        uint32
	name        string
	named       bool
	number      int32 // -1: none
	dump, exact bool
}

// errDeprecated is returned for an architecture of which it has been said that there are no
// tables any more.
var errDeprecated = errors.New("no tables")

// mostWords is what the stock tool takes.
const mostWords = 3

func parseSyscall(args []string, errs io.Writer) (ask syscallAsk, err error) {
	ask.number = -1
	switch {
	case len(args) > mostWords:
		return ask, errors.New("Too many arguments\n" + syscallUsageLine) //nolint:staticcheck // the stock tool's text
	case len(args) == 0:
		return ask, errors.New(syscallUsageLine) //nolint:staticcheck // as above
	}
	for _, word := range args {
		if err := ask.word(word, errs); err != nil {
			return ask, err
		}
	}
	if ask.arch == 0 {
		ask.arch = tables.MachineArch()
	}
	if !ask.named && ask.number == -1 && !ask.dump {
		return ask, errors.New("Error - either a syscall name or number must be given with an optional arch\n") //nolint:staticcheck // as above
	}
	return ask, nil
}

// word takes one word, of which nothing but its look says what it is.
func (ask *syscallAsk) word(word string, errs io.Writer) error {
	two := func(what string) error {
		return errors.New("Two " + what + " not allowed\n" + syscallUsageLine)
	}
	switch arch, ok := syscallArch(word); {
	case word == "--dump":
		ask.dump = true
	case word == "--exact":
		ask.exact = true
	case strings.EqualFold(word, "alpha"):
		fmt.Fprintln(errs, "Alpha processor support is deprecated")
		return errDeprecated
	case strings.EqualFold(word, "ia64"):
		fmt.Fprintln(errs, "IA64 processor support is deprecated")
	case ok && ask.arch != 0:
		return two("machine types")
	case ok:
		ask.arch = arch
	case word != "" && word[0] >= '0' && word[0] <= '9':
		if ask.number != -1 {
			return two("syscall numbers")
		}
		ask.number = leadingNumber(word)
	case ask.named:
		return two("syscall names")
	default:
		ask.name, ask.named = word, true
	}
	return nil
}

// syscallArch returns the architecture of a name, if its system calls are known.
func syscallArch(name string) (uint32, bool) {
	machine := tables.MachineArch()
	switch strings.ToLower(name) {
	case "b32":
		return tables.Arch32(machine)
	case "b64":
		return machine, machine&tables.Arch64Bit != 0
	}
	arch, ok := tables.ArchByName(name)
	return arch, ok && tables.Syscalls(arch) != nil
}

// leadingNumber reads the digits at the start of a word as the stock tool does, cut to 32
// bits.
func leadingNumber(word string) int32 {
	end := 0
	for end < len(word) && word[end] >= '0' && word[end] <= '9' {
		end++
	}
	n, err := strconv.ParseInt(word[:end], 10, 64)
	if err != nil {
		n = math.MaxInt64
	}
	return int32(n) //nolint:gosec // cut, as said
}

func (ask *syscallAsk) archName() string {
	name, _ := tables.ArchName(ask.arch)
	return name
}

// listed bounds the numbers of which the stock tool thinks; those above are ARM's own.
const listed = 8192

// answer writes what there is, and returns whether there is anything.
func (ask *syscallAsk) answer(out io.Writer) bool {
	switch {
	case ask.dump:
		fmt.Fprintf(out, "Using %s syscall table:\n", ask.archName())
		ask.each(func(nr int, name string) { fmt.Fprintf(out, "%d\t%s\n", nr, name) })
		return true
	case ask.named && ask.exact:
		nr, ok := tables.SyscallByName(ask.arch, ask.name)
		if ok {
			fmt.Fprintln(out, nr)
		}
		return ok
	case ask.named:
		any, part := false, strings.ToLower(ask.name)
		ask.each(func(nr int, name string) {
			if strings.Contains(strings.ToLower(name), part) {
				any = true
				fmt.Fprintf(out, "%-18s %d\n", name, nr)
			}
		})
		return any
	}
	name, ok := tables.SyscallName(ask.arch, int(ask.number))
	if ok {
		fmt.Fprintln(out, name)
	}
	return ok
}

func (ask *syscallAsk) each(fn func(nr int, name string)) {
	for _, nr := range tables.Syscalls(ask.arch) {
		if name, ok := tables.SyscallName(ask.arch, nr); ok && nr < listed {
			fn(nr, name)
		}
	}
}
