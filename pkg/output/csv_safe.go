package output

import (
	"bytes"
	"slices"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/event"
)

// A spreadsheet takes a cell that begins like this for a formula, and runs it: a name
// of a file would be a program. The last four are = + - @ in full width.
var formulaBegins = []string{"=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20"}

func beginsFormula(cell []byte) bool {
	return slices.ContainsFunc(formulaBegins, func(begin string) bool { return bytes.HasPrefix(cell, []byte(begin)) })
}

// CSVSafe returns cell, with ' in front if a spreadsheet would take the cell for a
// formula.
func CSVSafe(cell string) string {
	if beginsFormula([]byte(strings.TrimLeft(cell, " "))) {
		return "'" + cell
	}
	return cell
}

// csvSafe is a csv format that applies CSVSafe to each cell. The stock format does not
// quote cells, so a comma in a name starts a new cell, here as for any reader of the
// line.
type csvSafe struct {
	Formatter
	text []byte
}

func (f *csvSafe) Append(dst []byte, ev *event.Event) []byte {
	f.text = f.Formatter.Append(f.text[:0], ev)
	for line := range bytes.Lines(f.text) {
		for len(line) > 0 {
			n := bytes.IndexByte(line, ',') + 1
			if n == 0 {
				n = len(line)
			}
			cell := line[:n]
			inner := bytes.TrimLeft(cell, ` "`)
			if beginsFormula(inner) && !bytes.HasPrefix(inner, []byte("\n")) {
				at := n - len(inner)
				dst = append(append(dst, cell[:at]...), '\'')
				cell = inner
			}
			dst, line = append(dst, cell...), line[n:]
		}
	}
	return dst
}
