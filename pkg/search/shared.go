package search

import (
	"bytes"
	"io"
	"time"

	"github.com/auditfleet/auditfleet/pkg/record"
)

// What pkg/report has in common with searches.

// LocaleName is the locale that times are written in: Locale, or that of the
// environment.
func (e Env) LocaleName() string { return e.withDefaults().Locale }

// AppendDate appends a date and a time of day as a locale writes them (%x %T of
// strftime).
func AppendDate(dst []byte, locale string, t time.Time) []byte {
	return appendTime(dst, dateLayout(locale)+" %H:%M:%S", t)
}

// AppendEscaped appends text with its control characters as \ooo and, in the shell
// modes, a backslash before those that a shell would read.
func AppendEscaped(dst, text []byte, mode Escape) []byte { return appendEscaped(dst, text, mode) }

// Each calls fn with each of the logs and its name, as a log of its own.
func (l *Logs) Each(fn func(name string, log *Logs) error) error {
	for _, r := range l.readers {
		name := "stdin"
		if f, ok := r.(interface{ Name() string }); ok {
			if _, isPipe := r.(pipe); !isPipe {
				name = f.Name()
			}
		}
		if err := fn(name, &Logs{readers: []io.Reader{r}}); err != nil {
			return err
		}
	}
	return nil
}

// FirstMs is the time of the first record of the first log, in milliseconds since
// the epoch; 0 where it cannot be known without reading on, as of a pipe.
func (l *Logs) FirstMs() int64 {
	if len(l.readers) == 0 {
		return 0
	}
	f, ok := l.readers[0].(io.ReaderAt)
	if _, isPipe := l.readers[0].(pipe); !ok || isPipe {
		return 0
	}
	buf := make([]byte, 8*maxLine)
	n, _ := f.ReadAt(buf, 0) // an error is found by who reads on
	for line := range bytes.Lines(buf[:n]) {
		var r record.Record
		if err := r.Parse(line); err == nil || salvage(&r) {
			return r.Ms()
		}
	}
	return 0
}
