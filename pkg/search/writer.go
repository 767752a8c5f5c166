package search

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/mattn/go-isatty"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// Writer writes found events in one format. It is for one goroutine.
type Writer interface {
	// Event writes one event, which it does not keep.
	Event(ev *event.Event) error
	// Close writes what is left; it does not close what it writes to.
	Close() error
}

// FormatError is returned for a format that this version cannot write.
type FormatError struct{ Format Format }

func (e *FormatError) Error() string {
	return fmt.Sprintf("output format %s is not in this version yet: use raw, default or interpret", e.Format)
}

// NewWriter returns the Writer of o's format, with times in loc (nil is
// time.Local). The error is a *FormatError.
func NewWriter(out io.Writer, o *Options, loc *time.Location) (Writer, error) {
	if loc == nil {
		loc = time.Local
	}
	base := lineWriter{buf: bufio.NewWriterSize(out, 64<<10), flush: o.LineBuffered || isTerminal(out)}
	switch o.Format {
	case FormatRaw:
		return &rawWriter{base}, nil
	case FormatDefault:
		return &defaultWriter{lineWriter: base, loc: loc, escape: o.Escape}, nil
	case FormatInterpret:
		return newInterpretWriter(base, o, loc), nil
	}
	return nil, &FormatError{o.Format}
}

func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

type lineWriter struct {
	buf   *bufio.Writer
	flush bool
}

func (w *lineWriter) end() error {
	if w.flush {
		return w.buf.Flush()
	}
	return nil
}

func (w *lineWriter) Close() error { return w.buf.Flush() }

// rawWriter writes the records as they were logged.
type rawWriter struct{ lineWriter }

func (w *rawWriter) Event(ev *event.Event) error {
	for i := range ev.Records {
		if _, err := w.buf.Write(ev.Records[i].Raw); err != nil {
			return err
		}
		if err := w.buf.WriteByte('\n'); err != nil {
			return err
		}
	}
	return w.end()
}

// defaultWriter writes a line with the time and the records, the last first,
// without their enriched tail.
type defaultWriter struct {
	lineWriter
	loc    *time.Location
	escape Escape
	line   []byte
}

func (w *defaultWriter) Event(ev *event.Event) error {
	w.line = append(w.line[:0], "----\ntime->"...)
	w.line = time.Unix(ev.Ms/1000, 0).In(w.loc).AppendFormat(w.line, time.ANSIC)
	w.line = append(w.line, '\n')
	for i := len(ev.Records) - 1; i >= 0; i-- {
		r := &ev.Records[i]
		text := r.Raw
		if r.Enriched != nil {
			text = text[:len(text)-len(r.Enriched)-1]
		}
		w.line = append(appendEscaped(w.line, text, w.escape), '\n')
		if r.Type >= tables.DaemonStart && r.Type < tables.Syscall {
			break // the stock tool takes a daemon's event to be one record
		}
	}
	if _, err := w.buf.Write(w.line); err != nil {
		return err
	}
	return w.end()
}

const (
	shellSpecial = "\"'`$\\!()| "
	quoteSpecial = shellSpecial + ";#&*?[]<>{}"
)

// appendEscaped appends text with control characters as \ooo and, in the shell
// modes, a backslash before those that a shell would read.
func appendEscaped(dst, text []byte, mode Escape) []byte {
	special := ""
	switch mode {
	case EscapeRaw:
		return append(dst, text...)
	case EscapeShell:
		special = shellSpecial
	case EscapeShellQuote:
		special = quoteSpecial
	}
	for len(text) > 0 {
		n := bytes.IndexFunc(text, func(c rune) bool { return c < 32 })
		if n < 0 {
			n = len(text)
		}
		if special == "" {
			dst = append(dst, text[:n]...)
		} else {
			for _, c := range text[:n] {
				if bytes.IndexByte([]byte(special), c) >= 0 {
					dst = append(dst, '\\')
				}
				dst = append(dst, c)
			}
		}
		if n == len(text) {
			break
		}
		c := text[n]
		dst = append(dst, '\\', '0'+c>>6, '0'+c>>3&7, '0'+c&7)
		text = text[n+1:]
	}
	return dst
}
