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
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/trace"
	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/nearest"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

const traceUsage = `usage: %s [-r] program
    -r         only system calls that concern files, connections and programs
    --show     print the program's events, and those of all its children, as they happen
    --summary  count system calls, errors and files of the program and all its children
    --force    trace although rules are loaded: the trace's come before them
`

// tracer is the applet forwarder trace, or autrace.
type tracer struct {
	*ctl
	std                             Stdio
	name                            string
	resource, show, summary, forced bool
}

func newTraceCommand(std Stdio, version string) *cobra.Command {
	return completion.Help(&cobra.Command{
		Use:                "trace [-r] [--show] [--summary] [--force] PROGRAM [ARGUMENTS]",
		Short:              "Run one program under audit rules of its own",
		DisableFlagParsing: true,
		ValidArgsFunction:  completeTrace,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runTrace(cmd.Context(), "forwarder trace", args, std, version)
		},
	}, fmt.Sprintf(traceUsage, "forwarder trace"))
}

func runTrace(ctx context.Context, name string, args []string, std Stdio, version string) error {
	t := &tracer{ctl: newCtl(std, version), std: std, name: name}
	defer t.close()
	return coded(t.run(ctx, args))
}

// traceOptions are what may stand before the program.
var traceOptions = option.Table{
	{Names: []string{"-r"}, Brief: "only system calls that concern files, connections and programs"},
	{Names: []string{"--show"}, Brief: "print the events as they happen"},
	{Names: []string{"--summary"}, Brief: "count system calls, errors and files"},
	{Names: []string{"--force"}, Brief: "trace although rules are loaded"},
	{Names: []string{"-h", "--help"}, Brief: "show all options"},
}

// options reads what stands before the program.
func (t *tracer) options(args []string) (program []string, help bool) {
	for i, a := range args {
		o := traceOptions.Find(a)
		switch {
		case a == "--":
			return args[i+1:], false
		case o == nil:
			return args[i:], false
		}
		switch o.Names[0] {
		case "-r":
			t.resource = true
		case "--show":
			t.show = true
		case "--summary":
			t.summary = true
		case "--force":
			t.forced = true
		default:
			return nil, true
		}
	}
	return nil, false
}

// completeTrace offers options, then programs, then files for the program.
func completeTrace(_ *cobra.Command, before []string, typed string) ([]string, cobra.ShellCompDirective) {
	for i, a := range before {
		if traceOptions.Find(a) == nil && (a != "--" || i+1 < len(before)) {
			return nil, cobra.ShellCompDirectiveDefault
		}
	}
	programs := option.Words{List: programsInPath, Files: strings.Contains(typed, "/")}
	return completion.Answer(traceOptions.Complete(nil, typed, programs))
}

// programsInPath are the programs whose name begins as typed.
func programsInPath(_ []string, typed string) (names []string) {
	if typed == "" || strings.Contains(typed, "/") {
		return nil
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // a folder that is not there is none to the shell either
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), typed) && isExecutable(filepath.Join(dir, e.Name())) {
				names = append(names, e.Name())
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (t *tracer) run(ctx context.Context, args []string) int {
	program, help := t.options(args)
	stock := t.name == "autrace"
	switch {
	case help && !stock: // which takes it for a mistake
		fmt.Fprintf(t.out, traceUsage, t.name)
		return 0
	case !help && !stock && len(program) == 0:
		return t.wrong(errors.New("PROGRAM is missing"))
	case !help && !stock && strings.HasPrefix(program[0], "-") && !slices.Contains(args, "--"):
		return t.wrong(fmt.Errorf("there is no option %s%s", program[0], nearest.Hint(program[0], traceOptions.Names())))
	case help || len(program) == 0:
		fmt.Fprintf(t.err, traceUsage, t.name)
		return 1
	}
	path, ok := t.find(program[0])
	if !ok {
		return 1
	}
	if !t.allowed() {
		fmt.Fprintln(t.err, "You must be root or have capabilities to run this program.")
		t.hint("it needs CAP_AUDIT_CONTROL in the first user namespace")
		return 1
	}
	conn, err := t.connect()
	if err != nil {
		fmt.Fprintln(t.err, "Cannot open netlink audit socket")
		t.hint(t.why(err, nil))
		return 1
	}
	cfg := trace.Config{
		Conn: conn, Path: path, Args: program, Resource: t.resource, Force: t.forced,
		Stdin: t.std.In, Stdout: terminal.Bare(t.out), Stderr: terminal.Bare(t.err),
	}
	var summary trace.Summary
	if t.show || t.summary {
		show := t.writer()
		cfg.Enabled = t.switchedOn
		cfg.Events = func(ev *event.Event) {
			if t.summary {
				summary.Add(ev)
			}
			if t.show {
				show(ev)
			}
		}
	}
	result, err := trace.Run(ctx, cfg)
	if err != nil {
		return t.failed(err)
	}
	return t.report(result, &summary)
}

// wrong says what is wrong with the words.
func (t *tracer) wrong(err error) int {
	command.Report(t.err, t.name, command.Wrong(err))
	return exitUsage
}

// find looks for the program as autrace does, by its path, and then in PATH.
func (t *tracer) find(name string) (string, bool) {
	info, err := os.Stat(name)
	if err != nil && !strings.Contains(name, "/") {
		if path, perr := exec.LookPath(name); perr == nil {
			name = path
			info, err = os.Stat(name)
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		fmt.Fprintf(t.err, "Error - can't find: %s\n", name)
	case err != nil:
		fmt.Fprintf(t.err, "Error checking %s (%s)\n", name, errnoText(err))
	case info.IsDir() || info.Mode()&0o111 == 0:
		fmt.Fprintf(t.err, "Error checking %s (Permission denied)\n", name)
		t.hint("it is no program")
	default:
		return name, true
	}
	return "", false
}

// writer returns what prints an event at once.
func (t *tracer) writer() func(*event.Event) {
	w := output.NewWriter(t.out, &output.Config{Format: output.FormatInterpret, LineBuffered: true}, time.Local)
	return func(ev *event.Event) {
		_ = w.Event(ev) // where the output is gone the program is traced to its end all the same
	}
}

func (t *tracer) failed(err error) int {
	switch {
	case errors.Is(err, trace.ErrRulesLoaded):
		io.WriteString(t.err, t.name+" cannot be run with rules loaded.\nPlease delete all rules using 'auditctl -D' if you really wanted to\nrun this command.\n")
		t.hint("or give --force: the trace's own rules go before those that are loaded, which stay")
	case errors.Is(err, trace.ErrLocked):
		t.locked()
	default:
		fmt.Fprintf(t.err, "Error tracing the program: %v\n", err)
		var refused *kernel.OpError
		if errors.As(err, &refused) {
			t.hint(t.why(err, nil))
		}
	}
	return 1
}

// report prints how to find the records, in autrace's words, and what was asked
// for. Its exit code says that the trace went through, not what the program's was.
func (t *tracer) report(r *trace.Result, summary *trace.Summary) int {
	fmt.Fprintf(t.out, "Cleaning up...\nTrace complete. You can locate the records with 'ausearch -i -p %d'\n", r.PID)
	watched := t.show || t.summary
	if watched && r.Session != nil {
		fmt.Fprintf(t.out, "and those of its children with 'ausearch -i --session %d'\n", *r.Session)
	}
	if !watched && !r.Enabled {
		fmt.Fprintln(t.err, "audit is off, so nothing was recorded: auditctl -e 1 switches it on; --show and --summary do so themselves")
	}
	if watched && !r.Enabled {
		fmt.Fprintln(t.err, "audit was off and was switched on for the trace only: no log has these records")
	}
	if r.Unfollowed != nil {
		fmt.Fprintf(t.err, "children of children are missing: the program could not get an audit session of its own (%v)\n", r.Unfollowed)
	}
	var causes []string
	for cause, n := range r.Lost {
		if n > 0 {
			causes = append(causes, fmt.Sprintf("%d by %s", n, cause))
		}
	}
	if slices.Sort(causes); len(causes) > 0 {
		fmt.Fprintf(t.err, "records were lost, so events are missing: %s; auditctl -b makes room for more\n", strings.Join(causes, ", "))
	}
	if t.summary {
		fmt.Fprintln(t.out)
		if _, err := summary.WriteTo(t.out); err != nil {
			fmt.Fprintln(t.err, err)
			return 1
		}
	}
	return 0
}
