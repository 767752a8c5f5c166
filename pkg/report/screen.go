package report

import (
	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// Screen returns how a terminal shows the report. stock says that the program was called
// by the stock tool's name. Then there is no pager, because the stock tool has none and
// sudo rules rely on that, and control characters in a stock report are written as the
// stock tool writes them.
func (o *Options) Screen(stock bool) terminal.Options {
	o.bare = stock && o.Group == nil && o.Format == FormatStock
	t := terminal.Options{Pager: !stock && !o.NoPager, Doing: "reading", Bare: o.bare}
	if o.Format == FormatJSON {
		t.Form = terminal.JSON
	}
	return t
}

// ShowOn sets the options that depend on the terminal out, for example its width. It
// changes nothing when out is no terminal. The caller may still send the text through a
// pager.
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
