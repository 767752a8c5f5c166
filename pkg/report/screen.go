package report

import (
	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// Screen is how the report is to be shown on a terminal. Under the stock name there
// is no pager, for the stock tool has none and rules of sudo rely on that, and what
// a stock report makes of control characters is the stock tool's.
func (o *Options) Screen(stock bool) terminal.Options {
	o.bare = stock && o.Group == nil
	t := terminal.Options{Pager: !stock && !o.NoPager, Doing: "reading", Bare: o.bare}
	if o.Group != nil && o.Group.Format == FormatJSON {
		t.Form = terminal.JSON
	}
	return t
}

// ShowOn makes the report one for the terminal that out is; other outputs change
// nothing. What is written may still go through a pager.
func (o *Options) ShowOn(out any) {
	f, ok := terminal.File(out)
	if !ok {
		return
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return
	}
	if o.Columns = int(size.Col); size.Col == 0 {
		o.Columns = 80
	}
	o.people = !o.bare
}

// appendText appends a value that others chose: for a terminal without what that
// would obey, also a newline, which would begin a line of its own.
func (o *Options) appendText(dst, text []byte) []byte {
	if !o.people {
		return interpret.AppendEscaped(dst, text, o.Escape)
	}
	if o.Escape < interpret.EscapeShell {
		return terminal.AppendClean(dst, text)
	}
	return terminal.AppendClean(dst, interpret.AppendEscaped(nil, text, o.Escape))
}
