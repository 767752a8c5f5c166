package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/auditfleet/auditfleet/pkg/rules"
)

// maxRuleLine is the longest line of a rule file: more than any rule can need.
const maxRuleLine = 1 << 20

// readFile loads a rule file line by line, as auditctl -R: the first line that
// fails ends it, unless -i or -c came before.
func (c *ctl) readFile(path string) int {
	f, err := openRules(path)
	if err != nil {
		fmt.Fprintln(c.err, err)
		return 1
	}
	defer f.Close()
	conn, err := c.connect()
	if err != nil {
		fmt.Fprintln(c.err, "Cannot open netlink audit socket")
		c.hint(c.why(err, nil))
		return 1
	}
	s, err := conn.Status()
	if err != nil {
		c.sent("Error sending status request", err)
		return 1
	}
	if s.Enabled == 2 {
		return c.locked()
	}
	return c.readLines(path, f)
}

func (c *ctl) readLines(path string, in io.Reader) int {
	loaded, failed, skipped := 0, 0, 0
	sc := bufio.NewScanner(in)
	sc.Buffer(make([]byte, 0, 64<<10), maxRuleLine)
	stopped := false
	for no := 1; sc.Scan(); no++ {
		words := rules.SplitLine(sc.Text())
		if len(words) == 0 {
			continue
		}
		if stopped {
			skipped++
			continue
		}
		switch ok, deprecated := c.fileLine(path, no, words); {
		case deprecated:
			skipped++
		case ok:
			loaded++
		default:
			failed++
			fmt.Fprintf(c.err, "There was an error in line %d of %s\n", no, path)
			stopped = !c.keepGoing
		}
	}
	if err := sc.Err(); err != nil {
		fmt.Fprintf(c.err, "%s: %v\n", path, err)
		return 1
	}
	if failed+skipped > 0 {
		fmt.Fprintf(c.err, "%s: %d lines loaded, %d failed, %d skipped\n", path, loaded, failed, skipped)
	}
	if failed > 0 && (!c.keepGoing || c.failFile) {
		return 1
	}
	return 0
}

// fileLine carries out one line; errors are printed with their place.
func (c *ctl) fileLine(path string, no int, words []rules.Word) (ok, deprecated bool) {
	args := rules.Args(words)
	cmd, err := rules.ParseArgs(args, c.env)
	if err == nil && cmd.Has(rules.OpReadFile) {
		err = &rules.Error{Msg: "Error - nested rule files not supported", Arg: 0, Hint: "write the rules into this file"}
	}
	if err != nil {
		column := 1
		if e, isRule := asRuleError(err); isRule {
			column = e.Column(words)
		}
		fmt.Fprintf(c.err, "%s:%d:%d: ", path, no, column)
		c.refuse(args, err)
		return false, false
	}
	for _, w := range cmd.Warnings {
		fmt.Fprintf(c.err, "%s:%d: %s\n", path, no, w.Msg)
	}
	if cmd.Deprecated {
		return true, true
	}
	return c.carryOut(cmd) == 0, false
}

// openRules opens a rule file after the checks auditctl makes: whoever writes to
// it decides what is audited.
func openRules(path string) (*os.File, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("audit rules file %s doesn't exist", path)
	}
	if err != nil {
		return nil, fmt.Errorf("Error opening %s (%s)", path, errnoText(err)) //nolint:staticcheck // auditctl's words
	}
	info, err := f.Stat()
	if err == nil {
		err = checkRulesFile(path, info)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func checkRulesFile(path string, info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok || st.Uid != 0:
		return fmt.Errorf("Error - %s isn't owned by root\n  chown root it, or copy it to a file of root's", path) //nolint:staticcheck // auditctl's words
	case info.Mode().Perm()&0o002 != 0:
		return fmt.Errorf("Error - %s is world writable\n  chmod o-w it, after a look at what is in it", path) //nolint:staticcheck // auditctl's words
	case !info.Mode().IsRegular():
		return fmt.Errorf("Error - %s is not a regular file", path) //nolint:staticcheck // auditctl's words
	}
	return nil
}
