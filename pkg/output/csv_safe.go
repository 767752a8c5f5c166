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

// AppendCSV appends one cell of csv as RFC 4180 has it: in quotes where it has a comma, a
// quote or an end of line in it, or begins with a blank, which some readers drop. With safe
// it puts ' in front of what a spreadsheet would take for a formula; a number stays one.
func AppendCSV(dst, cell []byte, safe bool) []byte {
	safe = safe && beginsFormula(bytes.TrimLeft(cell, " ")) && !isPlainNumber(cell)
	quoted := bytes.ContainsAny(cell, ",\"\r\n") || len(cell) > 0 && (cell[0] == ' ' || cell[0] == '\t')
	if quoted {
		dst = append(dst, '"')
	}
	if safe {
		dst = append(dst, '\'')
	}
	if !quoted {
		return append(dst, cell...)
	}
	for _, c := range cell {
		if c == '"' {
			dst = append(dst, '"')
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}

// isPlainNumber says whether a cell is digits with a sign before them, and no more than one
// point among them.
func isPlainNumber(cell []byte) bool {
	if len(cell) > 0 && (cell[0] == '-' || cell[0] == '+') {
		cell = cell[1:]
	}
	whole, part, point := bytes.Cut(cell, []byte{'.'})
	return isDigits(whole) && (!point || isDigits(part))
}

func isDigits(s []byte) bool {
	return len(s) > 0 && len(bytes.Trim(s, "0123456789")) == 0
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
