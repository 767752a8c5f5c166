package report

import (
	"io"
	"strconv"

	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// encoder writes rows of --format, cell by cell: csv as RFC 4180 has it, JSON with an
// object a line, or the cells of a table, which somebody else lays out. One goroutine may
// use it.
type encoder struct {
	o       *Options
	text    []byte // what was written since take
	ends    []int  // end offset in text of each row, or of each cell of a table
	cells   int    // of the present row
	scratch []byte
}

// take hands over what was written, and begins anew.
func (e *encoder) take() (text []byte, ends []int) {
	text, ends = e.text, e.ends
	e.text, e.ends = nil, nil
	return text, ends
}

// heads writes the names of the columns, of which JSON has none.
func (e *encoder) heads(names ...string) {
	if e.o.Format == FormatJSON {
		return
	}
	for _, n := range names {
		e.add(n, []byte(n), words)
	}
	e.end()
}

// absent adds a cell without a value.
func (e *encoder) absent(name string) {
	switch e.o.Format {
	case FormatCSV:
		e.comma()
	case FormatJSON:
		e.key(name)
		e.text = append(e.text, "null"...)
	default:
		e.text = append(e.text, '-')
		e.ends = append(e.ends, len(e.text))
	}
	e.cells++
}

// add adds a cell. A value of the kind number that is none is a text.
func (e *encoder) add(name string, v []byte, k kind) {
	isNumber := k == number && output.IsJSONNumber(v)
	switch e.o.Format {
	case FormatCSV:
		e.comma()
		if isNumber {
			e.text = append(e.text, v...)
			break
		}
		if e.o.people {
			e.scratch = terminal.AppendClean(e.scratch[:0], v)
			v = e.scratch
		}
		if e.o.CSVSafe {
			v = []byte(output.CSVSafe(string(v)))
		}
		e.text = output.AppendCSV(e.text, v, false)
	case FormatJSON:
		e.key(name)
		if isNumber {
			e.text = append(e.text, v...)
			break
		}
		e.text = output.AppendJSONText(e.text, v)
	default:
		e.text = e.o.appendText(e.text, v)
		e.ends = append(e.ends, len(e.text))
	}
	e.cells++
}

func (e *encoder) count(name string, n uint64) {
	var digits [20]byte
	e.add(name, strconv.AppendUint(digits[:0], n, 10), number)
}

// end ends a row.
func (e *encoder) end() {
	switch e.o.Format {
	case FormatCSV:
		e.text = append(e.text, '\n')
	case FormatJSON:
		e.text = append(e.text, "}\n"...)
	}
	if e.o.Format != FormatTable {
		e.ends = append(e.ends, len(e.text))
	}
	e.cells = 0
}

func (e *encoder) comma() {
	if e.cells > 0 {
		e.text = append(e.text, ',')
	}
}

func (e *encoder) key(name string) {
	open := ", \""
	if e.cells == 0 {
		open = "{\""
	}
	e.text = append(append(append(e.text, open...), name...), "\": "...)
}

// tableRows is how many rows of a table are looked at for the widths of its columns
// before the first is written. A wider cell of a later row moves what is behind it.
const tableRows = 10000

// rowWriter writes rows that encoders have made, in their order. flush must be called
// after the last.
type rowWriter struct {
	encoder encoder // of what is not made by the workers
	out     io.Writer
	width   int        // cells a row of a table
	right   []bool     // columns of a table that are flush right
	rows    [][]string // of a table, not written yet
	widths  []int
}

// own writes what the writer's own encoder has made.
func (w *rowWriter) own() error {
	var p part
	p.lines, p.ends = w.encoder.take()
	return w.deliver(p)
}

func (w *rowWriter) deliver(p part) error {
	if w.encoder.o.Format != FormatTable {
		_, err := w.out.Write(p.lines)
		return err
	}
	from := 0
	for i := 0; i+w.width <= len(p.ends) && w.width > 0; i += w.width {
		row := make([]string, w.width)
		for c := range row {
			row[c] = string(p.lines[from:p.ends[i+c]])
			from = p.ends[i+c]
		}
		if w.rows = append(w.rows, row); len(w.rows) >= tableRows {
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush writes the rows of a table that are there.
func (w *rowWriter) flush() error {
	if w.widths == nil {
		w.widths = terminal.Widths(w.rows)
	}
	var line []byte
	for _, row := range w.rows {
		line = append(terminal.AppendRow(line[:0], row, w.widths, w.right), '\n')
		if _, err := w.out.Write(line); err != nil {
			return err
		}
	}
	w.rows = w.rows[:0]
	return nil
}
