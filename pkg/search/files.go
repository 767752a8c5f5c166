package search

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/auditfleet/auditfleet/pkg/logscan"
	"github.com/auditfleet/auditfleet/pkg/output"
)

// Stdio holds the standard streams of a command.
type Stdio struct {
	In       *os.File // read if it is a pipe and the options name no log
	Out, Err io.Writer
}

// StockVersion is the version of ausearch whose behaviour this package reproduces.
const StockVersion = "3.0.9"

// RunFiles searches the file or folder of -if, or standard input when that is a pipe, or
// else the local log, logFile. It writes results and error messages as ausearch does and
// returns ausearch's exit code: 0 when events were found, 1 when none were found, and
// Options.Failed when an error occurred.
func RunFiles(ctx context.Context, o *Options, loc *time.Location, logFile string, stdio Stdio) int {
	if o.Warn == nil {
		o.Warn = warnTo(stdio.Err)
	}
	if o.Checkpoint != "" { // without it -ts checkpoint says nothing, as in the stock tool
		return runCheckpoint(ctx, o, loc, logFile, stdio)
	}
	if o.ownWay() {
		return runOwn(ctx, o, loc, logFile, stdio)
	}
	in := o.input(logFile, stdio)
	logs, err := in.Open()
	if err != nil {
		fmt.Fprintln(stdio.Err, err)
		return o.Failed()
	}
	defer logs.Close()
	var noRecords atomic.Int64
	names := o.lookForNames()
	found, err := runLogs(ctx, o, loc, logs, o.skipped(stdio, &noRecords), names.Reader(), stdio.Out)
	if err != nil {
		fmt.Fprintln(stdio.Err, err)
		return o.Failed()
	}
	if found == 0 {
		o.noteRecords(&noRecords)
		o.NoteIfNothing(names.Notes()...)
	}
	return o.Exit(found, stdio.Err)
}

// input is the logs that o names.
func (o *Options) input(logFile string, stdio Stdio) logscan.Input {
	return logscan.Input{Path: o.Input, Logs: o.InputLogs, LogFile: logFile, In: stdio.In, Notes: stdio.Err}
}

// skipped is what is told of lines that are no records: by --debug each, and, but under
// the stock name, how many there are where nothing is found.
func (o *Options) skipped(stdio Stdio, n *atomic.Int64) func(line []byte, err error) {
	if !o.Debug && o.ErrorCode == 0 {
		return nil
	}
	return func(line []byte, err error) {
		n.Add(1)
		if o.Debug {
			fmt.Fprintln(stdio.Err, skippedLine(line, err))
		}
	}
}

// lookForNames looks for the names that o asks for in all that is read; under the stock name
// for none.
func (o *Options) lookForNames() *LogNames {
	if o.ErrorCode == 0 {
		return nil
	}
	return NewLogNames(&o.Query)
}

// noteRecords says that lines were no records.
func (o *Options) noteRecords(n *atomic.Int64) {
	if n := n.Load(); n > 0 && o.ErrorCode != 0 {
		o.NoteIfNothing(fmt.Sprintf("NOTE - of what was read %d lines are no audit records; --debug shows them", n))
	}
}

func skippedLine(line []byte, err error) string { return fmt.Sprintf("skipped: %v: %.200q", err, line) }

// Exit returns the exit code for the number of events found. If the stock tool prints a
// message in that case, Exit prints it to stderr.
func (o *Options) Exit(found int, stderr io.Writer) int {
	if found > 0 {
		return 0
	}
	if o.Format != output.FormatRaw && !o.Count {
		fmt.Fprintln(stderr, "<no matches>")
	}
	for _, note := range o.nothing {
		fmt.Fprintln(stderr, note)
	}
	return 1
}

// runOwn is RunFiles for what the stock tool cannot do.
func runOwn(ctx context.Context, o *Options, loc *time.Location, logFile string, stdio Stdio) int {
	var noRecords atomic.Int64
	in := o.input(logFile, stdio)
	src := &logscan.Source{Input: in, Again: o.Around > 0 || o.Tree, EOETimeout: o.EOETimeout, Skipped: o.skipped(stdio, &noRecords)}
	names := o.lookForNames()
	src.Text = names.Reader()
	src.Damaged = func(err error) { fmt.Fprintln(stdio.Err, err) }
	w := output.NewWriter(stdio.Out, &o.Config, loc)
	found, err := Find(ctx, o, src, w, stdio.Out, func(text string) { fmt.Fprintln(stdio.Err, text) })
	if err = errors.Join(err, w.Close(), src.Close()); err != nil {
		fmt.Fprintln(stdio.Err, err)
		return o.Failed()
	}
	if found == 0 && !o.Follow {
		o.noteRecords(&noRecords)
		o.NoteIfNothing(names.Notes()...)
	}
	return o.Exit(int(found), stdio.Err)
}
