package output

import (
	"bufio"
	"io"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/tables"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// Writer writes events in one format. One goroutine may use it.
type Writer interface {
	// Event writes one event. It does not keep ev.
	Event(ev *event.Event) error
	// Close writes buffered text. It does not close the underlying writer.
	Close() error
}

// A Formatter converts events to text. One goroutine may use it: a parallel search makes
// one Formatter for each worker.
type Formatter interface {
	// Head appends the text that comes once, before the first event: the column names of
	// csv.
	Head(dst []byte) []byte
	// Append appends the text of one event. It does not keep ev.
	Append(dst []byte, ev *event.Event) []byte
}

// NewFormatter returns a Formatter for o's format that writes times in loc; nil stands
// for time.Local.
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
		if o.CSVSafe && !o.CSVQuoted {
			return &csvSafe{Formatter: newCSVFormat(o, loc)}
		}
		return newCSVFormat(o, loc)
	case FormatText:
		return newTextFormat(o, loc)
	case FormatJSON:
		return newJSONFormat(o)
	case FormatLine:
		return newLineFormat(o, loc)
	default:
		return decorate(o, &defaultFormat{loc: loc, escape: o.Escape})
	}
}

// NewWriter returns a Writer to out in o's format that writes times in loc; nil stands
// for time.Local.
func NewWriter(out io.Writer, o *Config, loc *time.Location) Writer {
	return &formatWriter{o: o, loc: loc, buf: bufio.NewWriterSize(out, 64<<10), flush: o.LineBuffered || terminal.IsTerminal(out), format: NewFormatter(o, loc)}
}

// Pages is a Writer that also takes text which other goroutines have formatted.
type Pages interface {
	Writer
	// Parallel returns what makes a Formatter as this Writer's, one for each goroutine. It is nil
	// where each event is to be written at once.
	Parallel() func() Formatter
	// Page writes the text of whole events.
	Page(text []byte) error
}

type formatWriter struct {
	o      *Config
	loc    *time.Location
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

func (w *formatWriter) Parallel() func() Formatter {
	if w.flush {
		return nil
	}
	o := *w.o
	if warn := o.Warn; warn != nil {
		var mu sync.Mutex
		o.Warn = func(text string) {
			mu.Lock()
			defer mu.Unlock()
			warn(text)
		}
	}
	return func() Formatter { return NewFormatter(&o, w.loc) }
}

func (w *formatWriter) Page(text []byte) error {
	if !w.headed {
		w.headed = true
		if _, err := w.buf.Write(w.format.Head(nil)); err != nil {
			return err
		}
	}
	_, err := w.buf.Write(text)
	return err
}

func (w *formatWriter) Close() error { return w.buf.Flush() }

// IsRaw reports whether a Formatter writes the records as they were logged, and nothing else.
func IsRaw(f Formatter) bool {
	_, raw := f.(rawFormat)
	return raw
}

// rawFormat writes the records as they were logged.
type rawFormat struct{}

func (rawFormat) Head(dst []byte) []byte { return dst }

func (rawFormat) Append(dst []byte, ev *event.Event) []byte {
	for i := range ev.Records {
		dst = append(append(dst, ev.Records[i].Raw...), '\n')
	}
	return dst
}

// defaultFormat writes a line with the time, then the records, the last one first,
// without their enriched tail.
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
