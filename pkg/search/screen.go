package search

import (
	"slices"

	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// Screen is how results are to be shown on a terminal. Under the stock name there
// is no pager, for the stock tool has none and rules of sudo rely on that, and what
// it makes of control characters is the stock tool's. Elsewhere nothing that a
// terminal would obey reaches it, unless --format raw asks for that.
func (o *Options) Screen(stock bool) terminal.Options {
	t := terminal.Options{Color: o.Color, Pager: !stock && !o.NoPager && !o.Follow, Doing: "searching"}
	own := o.Tree || o.Count || o.WithHost || o.Format == FormatJSON
	o.bare = stock && !own || o.Format == FormatRaw && slices.Contains(o.Seen, "--format")
	t.Bare = o.bare
	switch {
	case o.Format == FormatJSON:
		t.Form = terminal.JSON
	case (o.Format == FormatDefault || o.Format == FormatInterpret) && !o.Tree:
		t.Form = terminal.Styled
	}
	return t
}

// ShowOn says what results are written to: in colour, and for people, who want to
// see each at once.
func (o *Options) ShowOn(color, people bool) {
	o.Color = "never"
	if color {
		o.Color = colorAlways
	}
	o.LineBuffered = o.LineBuffered || people
	if people && !o.bare && o.Escape == EscapeRaw { // a newline of a name would begin a line of its own
		o.Escape = EscapeTTY
	}
}
