package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/rules/ruleset"
)

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

// readLines carries a rule file out line by line. After a line that ends it the others
// are not carried out, but their errors are printed, too.
func (c *ctl) readLines(path string, in io.Reader) int {
	data, err := io.ReadAll(in)
	if err != nil {
		fmt.Fprintf(c.err, "%s: %v\n", path, err)
		return 1
	}
	loaded, failed, skipped := 0, 0, 0
	stopped := false
	f := ruleset.Parse(path, data, c.env)
	for i := range f.Lines {
		l := &f.Lines[i]
		if stopped {
			skipped++
			io.WriteString(c.err, l.Explain())
			continue
		}
		if goOn, fails := l.IgnoresErrors(); goOn {
			c.keepGoing, c.failFile = true, c.failFile || fails
		}
		if c.fileLine(l) {
			if l.Cmd.Deprecated {
				skipped++
			} else {
				loaded++
			}
			continue
		}
		failed++
		fmt.Fprintf(c.err, "There was an error in line %d of %s\n", l.No, path)
		stopped = !c.keepGoing
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
func (c *ctl) fileLine(l *ruleset.Line) bool {
	if l.Err != nil {
		for _, w := range l.Err.Warnings {
			fmt.Fprintf(c.err, "%s:%d: %s\n", l.File, l.No, w.Msg)
		}
		io.WriteString(c.err, l.Explain())
		return false
	}
	for _, w := range l.Cmd.Warnings {
		fmt.Fprintf(c.err, "%s:%d: %s\n", l.File, l.No, w.Msg)
	}
	return c.carryOut(l.Cmd) == 0
}

// openRules opens a rule file after the checks auditctl makes: whoever writes to
// it decides what is audited.
func openRules(path string) (*os.File, error) {
	f, err := fsys.OpenRegular(path, os.O_RDONLY, 0)
	var unsafe *fsys.UnsafeError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("audit rules file %s doesn't exist", path)
	case errors.As(err, &unsafe):
		return nil, fmt.Errorf("Error - %s is not a regular file", path)
	}
	if err != nil {
		return nil, fmt.Errorf("Error opening %s (%s)", path, errnoText(err))
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
		return fmt.Errorf("Error - %s isn't owned by root\n  chown root it, or copy it to a file of root's", path)
	case info.Mode().Perm()&0o002 != 0:
		return fmt.Errorf("Error - %s is world writable\n  chmod o-w it, after a look at what is in it", path)
	}
	return nil
}
