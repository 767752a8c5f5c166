package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/forwarder/internal/boot"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/rules"
	"github.com/auditfleet/auditfleet/pkg/rules/ruleset"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// Exit codes of auditctl beside rules.ExitCode.
const (
	ctlLocked  = 1 // nothing changed: the rules are locked (audit 4.x; 3.0.9 said 0)
	ctlNotRoot = 4
)

// exitCode is the error of a command that has already told the user everything: the
// program ends with that code and prints nothing more.
type exitCode int

func (c exitCode) Error() string { return "exit code " + strconv.Itoa(int(c)) }

// ctl is the applet forwarder ctl, or auditctl: it changes and shows rules and kernel
// settings.
type ctl struct {
	out, err  io.Writer
	env       rules.Env
	dial      func() (*kernel.Conn, error)
	allowed   func() bool // may configure the kernel's audit
	notes     boot.Notes  // when auditing was switched on
	version   string
	conn      *kernel.Conn // dialled when first needed
	keepGoing bool         // -i or -c was given in a rule file
	failFile  bool         // -c was: a failed line makes the exit code 1
}

func newCtl(std Stdio, version string) *ctl {
	return &ctl{out: std.Out, err: std.Err, env: rules.SystemEnv(), dial: kernel.Dial, allowed: canControl, notes: boot.Notes{Path: boot.DefaultNote}, version: version}
}

// explainOptions are options of this project that show rules without sending them.
var explainOptions = option.Table{
	{Names: []string{"--explain"}, Brief: "print as JSON what a rule would send"},
	{Names: []string{"--machine"}, Value: "ARCH", Brief: "with --explain, as on a machine of this architecture", Equals: true,
		Words: option.Words{List: func([]string, string) []string { return tables.ArchNames() }}},
}

// ctlOptions is what ctl takes.
func ctlOptions() option.Table { return append(rules.OptionTable(), explainOptions...) }

func newCtlCommand(std Stdio, version string) *cobra.Command {
	return completion.Help(&cobra.Command{
		Use:                "ctl [auditctl options]",
		Short:              "Rules and kernel settings, with the options of auditctl",
		DisableFlagParsing: true,
		ValidArgsFunction:  completion.By(ctlOptions(), option.Words{}),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := runCtl(cmd.Context(), args, std, version)
			if code := exitCode(0); errors.As(err, &code) && code == rules.ExitCode && len(args) > 0 && !slices.Contains(args, "--explain") {
				fmt.Fprint(std.Err, command.Try(cmd.CommandPath()))
			}
			return err
		},
	}, ctlUsage)
}

func runCtl(_ context.Context, args []string, std Stdio, version string) error {
	c := newCtl(std, version)
	code := c.run(args)
	c.close()
	if code == 0 {
		return nil
	}
	return exitCode(code)
}

func (c *ctl) close() {
	if c.conn != nil {
		_ = c.conn.Close() // nothing is waiting in it
	}
}

// run carries out one command line.
func (c *ctl) run(args []string) int {
	if rest, ok := cutExplain(args); ok {
		return c.explain(rest)
	}
	if len(args) == 0 {
		fmt.Fprint(c.out, ctlUsage)
		return 1
	}
	help := len(args) == 1 && (args[0] == "-h" || args[0] == "--help")
	if !help && !c.allowed() {
		fmt.Fprintln(c.err, "You must be root to run this program.")
		fmt.Fprintln(c.err, "  it needs CAP_AUDIT_CONTROL; --explain shows without it what a rule would send")
		return ctlNotRoot
	}
	cmd, err := rules.ParseArgs(args, c.env)
	if err != nil {
		c.refuse(args, err)
		return rules.ExitCode
	}
	c.warn(cmd.Warnings)
	if cmd.Has(rules.OpReadFile) {
		return c.readFile(cmd.Ops[0].File)
	}
	return c.carryOut(cmd)
}

func (c *ctl) warn(warnings []rules.Warning) {
	for _, w := range warnings {
		fmt.Fprintln(c.err, w.Msg)
	}
}

// refuse says what is wrong with a command line: auditctl's sentence first, then
// the place and what to do.
func (c *ctl) refuse(args []string, err error) {
	e, ok := asRuleError(err)
	if !ok {
		fmt.Fprintln(c.err, err)
		return
	}
	c.warn(e.Warnings)
	fmt.Fprintln(c.err, e.Msg)
	fmt.Fprint(c.err, e.Detail(args))
}

// connect dials the kernel once.
func (c *ctl) connect() (*kernel.Conn, error) {
	if c.conn == nil {
		conn, err := c.dial()
		if err != nil {
			return nil, err
		}
		c.conn = conn
	}
	return c.conn, nil
}

// cutExplain finds our own --explain, first or last on the line.
func cutExplain(args []string) ([]string, bool) {
	if n := len(args); n > 0 && args[0] == "--explain" {
		return args[1:], true
	} else if n > 0 && args[n-1] == "--explain" {
		return args[:n-1], true
	}
	return args, false
}

// explain prints what each rule would send, without a kernel.
func (c *ctl) explain(args []string) int {
	if len(args) >= 1 && strings.HasPrefix(args[0], "--machine") {
		name, ok := strings.CutPrefix(args[0], "--machine=")
		rest := args[1:]
		if !ok && len(rest) > 0 {
			name, rest = rest[0], rest[1:]
		}
		arch, known := tables.ArchByName(name)
		if !known {
			fmt.Fprintf(c.err, "--machine: unknown architecture %q: give what uname -m prints there, such as aarch64\n", name)
			return rules.ExitCode
		}
		c.env.Arch, args = arch, rest
	}
	if len(args) == 2 && args[0] == "-R" {
		return c.explainFile(args[1])
	}
	if len(args) == 0 {
		fmt.Fprintln(c.err, "--explain: give a rule after it, or -R FILE")
		return rules.ExitCode
	}
	code := 0
	for _, e := range rules.Explain(args, c.env) {
		code = max(code, c.printExplanation(&e))
	}
	return code
}

func (c *ctl) printExplanation(e *rules.Explanation) int {
	b, err := e.JSON()
	if err == nil {
		_, err = c.out.Write(b)
	}
	if err != nil {
		fmt.Fprintln(c.err, err)
		return 1
	}
	if e.Exit != nil {
		return *e.Exit
	}
	return 0
}

// explainFile explains every line of a rule file, also behind lines that are wrong.
func (c *ctl) explainFile(path string) int {
	data, err := fsys.ReadRegular(path, ruleset.MaxFile)
	if err != nil {
		fmt.Fprintln(c.err, err)
		return 1
	}
	code := 0
	for i, line := range bytes.Split(data, []byte("\n")) {
		words := rules.SplitLine(string(line))
		if len(words) == 0 {
			continue
		}
		args := rules.Args(words)
		_, perr := rules.ParseArgs(args, c.env)
		for _, e := range rules.Explain(args, c.env) {
			e.File, e.LineNo = path, i+1
			if pe, ok := asRuleError(perr); ok {
				e.Column = pe.Column(words)
			}
			if c.printExplanation(&e) != 0 {
				code = 1
			}
		}
	}
	return code
}

// capAuditControl is CAP_AUDIT_CONTROL of linux/capability.h.
const capAuditControl = 30

// canControl reports whether this process has the capability in effect.
func canControl() bool {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return os.Geteuid() == 0
	}
	for line := range strings.SplitSeq(string(status), "\n") {
		if hex, ok := strings.CutPrefix(line, "CapEff:"); ok {
			caps, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
			return err == nil && caps&(1<<capAuditControl) != 0
		}
	}
	return os.Geteuid() == 0
}
