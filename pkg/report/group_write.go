package report

import (
	"strconv"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

const timeColumn = "time"

func (w *writer) groupTime(at int64) string { return time.Unix(at, 0).In(w.loc).Format(time.RFC3339) }

// heads are the columns' names.
func (w *writer) heads() []string {
	var heads []string
	if w.o.Group.Every != 0 {
		heads = append(heads, timeColumn)
	}
	for _, by := range w.o.Group.By {
		heads = append(heads, by.Name)
	}
	return append(heads, "events")
}

// numberFields are the fields whose values are numbers.
const numberFields = wantPID | wantAUID | wantUID | wantSession | 1<<query.FieldPPID | 1<<query.FieldEUID | 1<<query.FieldGID |
	1<<query.FieldEGID | 1<<query.FieldSyscall | 1<<query.FieldExit

// namedFields are those whose values have names with -i.
const namedFields = numberFields &^ (wantPID | 1<<query.FieldPPID)

// groupRows writes the groups as csv or JSON.
func (w *writer) groupRows(all []group) {
	e := &w.rows.encoder
	heads := w.heads()
	e.heads(heads...)
	for _, g := range all {
		if w.o.Group.Every != 0 {
			e.add(timeColumn, []byte(w.groupTime(g.at)), words)
		}
		for i, v := range g.values {
			by := w.o.Group.By[i]
			k := words
			if !by.Node && numberFields.Has(by.Field) && !(w.o.Interpret && namedFields.Has(by.Field)) {
				k = number
			}
			if g.absent[i] {
				e.absent(by.Name)
			} else {
				e.add(by.Name, []byte(v), k)
			}
		}
		e.count(heads[len(heads)-1], g.n)
		e.end()
	}
	_ = w.rows.own() // finish flushes, and reports
}

// groupsTable writes columns, on a terminal with a bar behind each line.
func (w *writer) groupsTable(all []group) {
	if len(all) == 0 {
		w.out.WriteString(nothing)
		return
	}
	heads := w.heads()
	rows := make([][]string, 0, len(all)+1)
	rows = append(rows, heads)
	most := uint64(0)
	for _, g := range all {
		var row []string
		if w.o.Group.Every != 0 {
			row = append(row, string(output.AppendDate(nil, w.o.Locale, time.Unix(g.at, 0).In(w.loc))))
		}
		for i, v := range g.values {
			if g.absent[i] {
				v = "-"
			}
			row = append(row, string(w.o.appendText(nil, []byte(v))))
		}
		rows = append(rows, append(row, strconv.FormatUint(g.n, 10)))
		most = max(most, g.n)
	}
	widths := make([]int, len(heads))
	for _, row := range rows {
		for i, v := range row {
			widths[i] = max(widths[i], terminal.Width(v))
		}
	}
	bars := w.barWidth(widths)
	for i, row := range rows {
		var line strings.Builder
		for c, v := range row {
			pad := strings.Repeat(" ", widths[c]-terminal.Width(v))
			if c == len(row)-1 { // the count
				line.WriteString(pad + v)
			} else {
				line.WriteString(v + pad + "  ")
			}
		}
		if i > 0 && bars > 0 {
			line.WriteString("  " + bar(all[i-1].n, most, bars))
		}
		w.out.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
}

// Columns of a terminal: what bars have at least, and at most.
const (
	leastBar = 8
	mostBar  = 60
)

// barWidth is how many columns of the terminal are left for bars; 0 where the
// report goes elsewhere.
func (w *writer) barWidth(widths []int) int {
	if w.columns == 0 {
		return 0
	}
	left := w.columns - 2
	for _, n := range widths {
		left -= n + 2
	}
	if left < leastBar {
		return 0
	}
	return min(left, mostBar)
}

// bar is a bar of eighths of a column.
func bar(n, most uint64, width int) string {
	if most == 0 {
		return ""
	}
	eighths := int(float64(n) / float64(most) * float64(width) * 8)
	if n > 0 {
		eighths = max(eighths, 1)
	}
	out := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		out += string([]rune("▏▎▍▌▋▊▉")[rest-1])
	}
	return out
}
