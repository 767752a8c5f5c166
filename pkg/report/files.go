package report

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/auditfleet/auditfleet/pkg/logscan"
	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/search"
)

// RunFiles writes the report that o asks for. It reads the file or folder of -if, or
// standard input when that is a pipe, or else the local log, logFile. It writes errors to
// stdio itself and returns aureport's exit code: 0 when the report was written, 1 when a
// list has no lines or an error occurred.
func RunFiles(ctx context.Context, o *Options, loc *time.Location, logFile string, stdio search.Stdio) int {
	w := newWriter(stdio.Out, o, loc)
	code, err := runFiles(ctx, w, logFile, stdio)
	if err != nil {
		fmt.Fprintln(stdio.Err, errors.Join(err, w.out.Flush())) // with what was found before
		return o.Failed()
	}
	return code
}

func runFiles(ctx context.Context, w *writer, logFile string, stdio search.Stdio) (int, error) {
	if err := w.title(); err != nil {
		return 1, err
	}
	o := w.o
	in := logscan.Input{Path: o.Input, Logs: o.InputLogs, LogFile: logFile, In: stdio.In, Notes: stdio.Err}
	logs, err := in.Open()
	if err != nil {
		return 1, err
	}
	defer logs.Close()
	cfg := logscan.Config{Query: o.Query(), EOETimeout: o.EOETimeout}
	if o.Kind == Overview || o.Kind == LogTimes {
		cfg.Query.Nodes = nil // the range of time is that of the logs
	}
	if o.Debug {
		cfg.Skipped = func(line []byte, err error) {
			fmt.Fprintf(stdio.Err, "skipped: %v: %.200q\n", err, line)
		}
	}
	if o.ErrorCode != 0 && o.Kind != LogTimes {
		names := search.NewLogNames(o.Query())
		cfg.Text = names.Reader()
		o.IfNothing = func() {
			for _, note := range names.Notes() {
				fmt.Fprintln(stdio.Err, note)
			}
		}
	}
	if o.Kind == LogTimes {
		err := w.logTimes(ctx, logs, cfg)
		return 0, errors.Join(err, w.rows.flush(), w.out.Flush())
	}
	if o.Kind == Overview {
		w.first = logs.FirstMs()
	}
	err = logscan.Scan(ctx, logs, cfg, func() (logscan.Worker[part], error) { return w.printer(), nil }, w.deliver)
	if err != nil {
		return 1, fmt.Errorf("report: %w", err)
	}
	return w.finish()
}

// LogTime holds the times of the first and the last event of one log.
type LogTime struct {
	Name            string
	FirstMs, LastMs int64 // 0: it has none
}

// WriteLogTimes writes the report LogTimes: one line for each of logs.
func WriteLogTimes(out io.Writer, o *Options, loc *time.Location, logs []LogTime) error {
	w := newWriter(out, o, loc)
	if err := w.title(); err != nil {
		return errors.Join(err, w.out.Flush())
	}
	for _, l := range logs {
		w.logTime(l)
	}
	if err := errors.Join(w.rows.flush(), w.out.Flush()); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

func (w *writer) logTime(l LogTime) {
	if w.o.Format != FormatStock {
		w.logTimeRow(l)
		return
	}
	milli := func(ms int64) string {
		date := output.AppendDate(nil, w.o.Locale, time.UnixMilli(ms-ms%1000).In(w.loc))
		return fmt.Sprintf("%s.%03d", date, ms%1000)
	}
	if l.FirstMs == 0 {
		fmt.Fprintf(w.out, "%s: no records\n", l.Name)
		return
	}
	fmt.Fprintf(w.out, "%s: %s - %s\n", l.Name, milli(l.FirstMs), milli(l.LastMs))
}

// logTimes reads the times of each log.
func (w *writer) logTimes(ctx context.Context, logs *logscan.Logs, cfg logscan.Config) error {
	return logs.Each(func(name string, log *logscan.Logs) error {
		w.times = times{}
		w.all = nil
		err := logscan.Scan(ctx, log, cfg, func() (logscan.Worker[part], error) { return w.printer(), nil }, w.deliver)
		if err != nil {
			return fmt.Errorf("report: %s: %w", name, err)
		}
		w.logTime(LogTime{name, w.times.first, w.times.last})
		return nil
	})
}
