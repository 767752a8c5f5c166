package report

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/nss"
	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/tables"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// nothing is written in place of the lines of a report that has none.
const nothing = "<no events of interest were found>\n\n"

// writer writes a report: its heading, then the lines of the parts in the order of the
// events, or the merged counts of all printers. Only the goroutine that called the scan
// uses it.
type writer struct {
	o       *Options
	spec    *spec
	loc     *time.Location
	out     *bufio.Writer
	lines   uint64 // written
	times   times
	first   int64 // of the logs, where it is not the first event's: a record outside the time selected
	all     []*printer
	order   *tally // values by first appearance
	buf     []byte
	columns int       // of the terminal that is written to, 0 for none
	rows    rowWriter // of --format
}

func newWriter(out io.Writer, o *Options, loc *time.Location) *writer {
	if loc == nil {
		loc = time.Local
	}
	if o.Names == nil {
		local := *o
		local.Names = nss.New(nss.Config{})
		o = &local
	}
	w := &writer{o: o, spec: &reports[o.Kind], loc: loc, out: bufio.NewWriterSize(out, 64<<10), order: newTally(nil), columns: o.Columns, first: o.FirstMs}
	w.rows = rowWriter{out: w.out, encoder: encoder{o: o}}
	return w
}

// printer returns a new printer, whose sums finish adds up.
func (w *writer) printer() *printer {
	p := newPrinter(w.o, w.loc)
	w.all = append(w.all, p)
	return p
}

// title writes the heading. The error is a *UsageError for a summary that the
// report has not.
func (w *writer) title() error {
	s := w.spec
	switch {
	case w.o.Group != nil:
		return nil
	case w.o.Format != FormatStock:
		return w.heading()
	}
	w.out.WriteByte('\n')
	if !w.o.Summary {
		rule := strings.Repeat("=", s.rule)
		if s.columns == "" {
			fmt.Fprintf(w.out, "%s\n%s\n", s.title, rule)
			return nil
		}
		rule2 := strings.Repeat("=", cmp.Or(s.rule2, s.rule))
		fmt.Fprintf(w.out, "%s\n%s\n# date time %s\n%s\n", s.title, rule, s.columns, rule2)
		return nil
	}
	switch w.o.Result {
	case OnlyFailed:
		w.out.WriteString("Failed ")
	case OnlySuccess:
		w.out.WriteString("Success ")
	}
	if s.sumTitle == "" {
		return usagef(unimplemented)
	}
	rule := strings.Repeat("=", s.sumRule)
	fmt.Fprintf(w.out, "%s\n%s\n", s.sumTitle, rule)
	if s.sumColumn != "" {
		fmt.Fprintf(w.out, "total  %s\n%s\n", s.sumColumn, rule)
	}
	return nil
}

// deliver takes what some events came to, in the order of the events.
func (w *writer) deliver(p part) error {
	if p.any {
		w.times.add(p.first)
		w.times.last = p.last
	}
	w.order.touch(p.fresh)
	if w.o.Format != FormatStock {
		w.lines += uint64(len(p.ends))
		return w.rows.deliver(p)
	}
	from := 0
	for _, end := range p.ends {
		w.lines++
		w.buf = append(strconv.AppendUint(w.buf[:0], w.lines, 10), ". "...)
		w.out.Write(w.buf)
		if _, err := w.out.Write(p.lines[from:end]); err != nil {
			return fmt.Errorf("write report: %w", err)
		}
		from = end
	}
	return nil
}

// finish writes what comes behind the events and returns the exit code.
func (w *writer) finish() (int, error) {
	code := 0
	switch {
	case w.o.Group != nil:
		w.groups()
	case w.o.Kind == Overview:
		w.overview()
	case w.o.Summary:
		for _, p := range w.all {
			w.order.merge(p.tally)
		}
		w.summary(w.order.sorted(w.less()))
	case w.o.Kind != LogTimes && w.lines == 0:
		if w.o.Format == FormatStock || w.o.Format == FormatTable {
			w.out.WriteString(nothing)
		}
		code = 1
	case w.o.Format == FormatTable:
		_ = w.rows.flush() // Flush says it again
	}
	if err := w.out.Flush(); err != nil {
		return 1, fmt.Errorf("write report: %w", err)
	}
	if w.o.IfNothing != nil && !slices.ContainsFunc(w.all, func(p *printer) bool { return p.any }) {
		w.o.IfNothing()
	}
	return code, nil
}

// less orders values that were there equally often; nil leaves them in the order
// in which they came. Numbers go by size, as in the stock tool.
func (w *writer) less() func(a, b string) int {
	switch {
	case w.spec.style == numbers, w.spec.style == typeNames:
		return compareNumbers
	case w.o.ByValue:
		return cmp.Compare[string]
	}
	return nil
}

// compareNumbers compares decimal numbers, as strconv writes them.
func compareNumbers(a, b string) int {
	x, y := strings.HasPrefix(a, "-"), strings.HasPrefix(b, "-")
	switch {
	case x && y:
		a, b = b[1:], a[1:]
	case x:
		return -1
	case y:
		return 1
	}
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

// summary writes the lines of a summary.
func (w *writer) summary(counts []Count) {
	if w.o.Top != 0 {
		counts = counts[:min(len(counts), w.o.Top)]
	}
	if w.o.Format != FormatStock {
		w.summaryRows(counts)
		return
	}
	if len(counts) == 0 {
		w.out.WriteString(nothing)
		return
	}
	for _, c := range counts {
		w.buf = append(strconv.AppendUint(w.buf[:0], c.N, 10), "  "...)
		switch w.spec.style {
		case typeNames:
			w.buf = append(w.buf, w.typeName(c.Value)...)
		case escaped:
			w.buf = w.o.appendText(w.buf, []byte(c.Value))
		default:
			if w.o.people {
				w.buf = terminal.AppendClean(w.buf, []byte(c.Value))
				break
			}
			w.buf = append(w.buf, c.Value...)
		}
		w.out.Write(append(w.buf, '\n'))
	}
}

func (w *writer) typeName(number string) string {
	n, err := strconv.ParseUint(number, 10, 16)
	if !w.o.Interpret || err != nil {
		return number
	}
	return tables.TypeName(uint16(n))
}

// overview writes the summary of summaries.
func (w *writer) overview() {
	sum := newOverview(nil)
	for _, p := range w.all {
		sum.merge(p.over)
	}
	if w.o.Format != FormatStock {
		w.overviewRows(sum)
		return
	}
	date := func(ms int64) string {
		return string(output.AppendDate(nil, w.o.Locale, time.UnixMilli(ms-ms%1000).In(w.loc)))
	}
	milli := func(ms int64) string { return fmt.Sprintf("%s.%03d", date(ms), ms%1000) }
	first, last, selectedFrom, selectedTo := w.ranges()
	fmt.Fprintf(w.out, "Range of time in logs: %s - %s\n", milli(first), milli(last))
	from, to := date(selectedFrom), milli(selectedTo)
	if w.o.EndMs != 0 {
		to = date(selectedTo)
	}
	fmt.Fprintf(w.out, "Selected time for report: %s - %s\n", from, to)
	for line, what := range overviewLines {
		fmt.Fprintf(w.out, "Number of %s: %d\n", what, sum.value(line))
	}
	w.out.WriteByte('\n')
}

// Scan passes the events that q selects to fn, in the order in which the report lists
// them.
type Scan func(ctx context.Context, q *query.Query, fn func(*event.Event) error) error

// flushEvery is how many events a report is written behind.
const flushEvery = 256

// run writes the report that o asks for, of the events of src, with times in loc,
// and returns the exit code: 1 for a list without lines, as aureport.
func run(ctx context.Context, o *Options, loc *time.Location, src Source, out io.Writer) (int, error) {
	w := newWriter(out, o, loc)
	if err := w.title(); err != nil {
		return 1, errors.Join(err, w.out.Flush())
	}
	read := w.read
	if src.Texts != nil {
		read = w.readTexts
	}
	if err := read(ctx, src); err != nil {
		return 1, errors.Join(err, w.out.Flush()) // what was found before
	}
	return w.finish()
}

// readTexts reads the events on all cores.
func (w *writer) readTexts(ctx context.Context, src Source) error {
	return query.ScanTexts(ctx, w.o.Query(), src.Texts, func() func(query.Texts) (part, error) {
		p := w.printer()
		var ev event.Event
		return func(t query.Texts) (part, error) {
			for i := range t.Len() {
				t.Event(i, &ev)
				if err := p.Event(&ev); err != nil {
					return part{}, err
				}
			}
			return p.Flush()
		}
	}, w.deliver)
}

// read reads the events one after the other.
func (w *writer) read(ctx context.Context, src Source) error {
	p := w.printer()
	n := 0
	err := src.Scan(ctx, w.o.Query(), func(ev *event.Event) error {
		if err := p.Event(ev); err != nil {
			return err
		}
		if n++; n%flushEvery != 0 {
			return nil
		}
		part, _ := p.Flush()
		return w.deliver(part)
	})
	part, _ := p.Flush()
	return errors.Join(err, w.deliver(part))
}
