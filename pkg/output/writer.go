package output

import (
	"bufio"
	"io"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/tables"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// Writer writes found events in one format. It is for one goroutine.
type Writer interface {
	// Event writes one event, which it does not keep.
	Event(ev *event.Event) error
	// Close writes what is left; it does not close what it writes to.
	Close() error
}

// A Formatter turns events into text. It is for one goroutine: a parallel search makes
// one for each worker.
type Formatter interface {
	// Head appends what comes once, before the first event: csv's column names.
	Head(dst []byte) []byte
	// Append appends the text of one event, which it does not keep.
	Append(dst []byte, ev *event.Event) []byte
}

// NewFormatter returns the Formatter of o's format, with times in loc (nil is
// time.Local).
func NewFormatter(o *Config, loc *time.Location) Formatter {
	if loc == nil {
		loc = time.Local
	}
	switch o.Format {
	case FormatRaw:
		return rawFormat{}
	case FormatInterpret:
		return decorate(o, newInterpretFormat(o, loc))
	case FormatCSV:
		if o.CSVSafe {
			return &csvSafe{Formatter: newCSVFormat(o, loc)}
		}
		return newCSVFormat(o, loc)
	case FormatText:
		return newTextFormat(o, loc)
	case FormatJSON:
		return newJSONFormat(o)
	default:
		return decorate(o, &defaultFormat{loc: loc, escape: o.Escape})
	}
}

// NewWriter returns a Writer of o's format, with times in loc (nil is time.Local).
func NewWriter(out io.Writer, o *Config, loc *time.Location) Writer {
	return &formatWriter{buf: bufio.NewWriterSize(out, 64<<10), flush: o.LineBuffered || terminal.IsTerminal(out), format: NewFormatter(o, loc)}
}

type formatWriter struct {
	buf    *bufio.Writer
	flush  bool
	headed bool
	format Formatter
	text   []byte
}

func (w *formatWriter) Event(ev *event.Event) error {
	w.text = w.text[:0]
	if !w.headed {
		w.text, w.headed = w.format.Head(w.text), true
	}
	w.text = w.format.Append(w.text, ev)
	if _, err := w.buf.Write(w.text); err != nil {
		return err
	}
	if w.flush {
		return w.buf.Flush()
	}
	return nil
}

func (w *formatWriter) Close() error { return w.buf.Flush() }

// rawFormat is the records as they were logged.
type rawFormat struct{}

func (rawFormat) Head(dst []byte) []byte { return dst }

func (rawFormat) Append(dst []byte, ev *event.Event) []byte {
	for i := range ev.Records {
		dst = append(append(dst, ev.Records[i].Raw...), '\n')
	}
	return dst
}

// defaultFormat is a line with the time and the records, the last first, without
// their enriched tail.
type defaultFormat struct {
	loc    *time.Location
	escape interpret.Escape
}

func (*defaultFormat) Head(dst []byte) []byte { return dst }

func (f *defaultFormat) Append(dst []byte, ev *event.Event) []byte {
	dst = append(dst, "----\ntime->"...)
	dst = time.Unix(ev.Ms/1000, 0).In(f.loc).AppendFormat(dst, time.ANSIC)
	dst = append(dst, '\n')
	for i := len(ev.Records) - 1; i >= 0; i-- {
		r := &ev.Records[i]
		text := r.Raw
		if r.Enriched != nil {
			text = text[:len(text)-len(r.Enriched)-1]
		}
		dst = append(interpret.AppendEscaped(dst, text, f.escape), '\n')
		if r.Type >= tables.DaemonStart && r.Type < tables.Syscall {
			break // the stock tool takes a daemon's event to be one record
		}
	}
	return dst
}
