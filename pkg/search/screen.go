package search

import (
	"slices"

	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// Screen returns how a terminal shows the results. stock says that the program was called
// by the stock tool's name. Then there is no pager, because the stock tool has none and
// sudo rules rely on that, and control characters are written as the stock tool writes
// them. Otherwise no text that would control a terminal reaches it, unless --format raw
// asks for that.
func (o *Options) Screen(stock bool) terminal.Options {
	o.stock = stock
	t := terminal.Options{Color: o.Colors, Pager: !stock && !o.NoPager && !o.Follow, Doing: "searching"}
	own := o.Tree || o.Count || o.WithHost || o.Format == output.FormatJSON
	o.Bare = stock && !own || o.Format == output.FormatRaw && slices.Contains(o.Seen, "--format")
	t.Bare = o.Bare
	switch {
	case o.Format == output.FormatJSON:
		t.Form = terminal.JSON
	case (o.Format == output.FormatDefault || o.Format == output.FormatInterpret || o.Format == output.FormatLine) && !o.Tree:
		t.Form = terminal.Styled
	}
	return t
}

// ShowOn adapts the options to the output: color says whether to write colours, people
// whether persons watch, who want to see each result at once, and one line an event unless
// they ask for another format. Screen must have been called before.
func (o *Options) ShowOn(color, people bool) {
	if people && !o.stock && o.asksNoFormat() {
		o.Format, o.Query.Origin = output.FormatLine, true
	}
	o.Color, o.NoCR = color, people
	o.LineBuffered = o.LineBuffered || people
	if people && !o.Bare && o.Escape == interpret.EscapeRaw { // a newline of a name would begin a line of its own
		o.Escape = interpret.EscapeTTY
	}
}

// asksNoFormat says whether the command line leaves the format open: none is given, and no
// option that is about the records as such.
func (o *Options) asksNoFormat() bool {
	return o.Format == output.FormatDefault && !slices.ContainsFunc(o.Seen, func(opt string) bool {
		return opt == "--format" || opt == "--escape" || opt == "--with-host"
	})
}
