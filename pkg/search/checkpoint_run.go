package search

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/logscan"
	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// resume is a search of logs that continues an earlier one.
type resume struct {
	o      *Options
	match  *query.Matcher
	w      output.Writer
	from   *checkpoint // nil: from the beginning
	passed bool        // the place where the earlier one ended
	last   mark        // of this one
	file   int         // that it is in
	found  int
}

// lateness is how much younger a preceding event may be than a complete one, in seconds.
const lateness = 2 // seconds

// runCheckpoint is RunFiles with --checkpoint. What is not complete at the end of
// the logs is left for the next time.
func runCheckpoint(ctx context.Context, o *Options, loc *time.Location, logFile string, stdio Stdio) int {
	found, err := resumeFiles(ctx, o, loc, logFile, stdio)
	if bad := (*CheckpointError)(nil); errors.As(err, &bad) {
		fmt.Fprintln(stdio.Err, bad.Text)
		return bad.Code
	}
	if err != nil {
		fmt.Fprintln(stdio.Err, err)
		return o.Failed()
	}
	return o.Exit(found, stdio.Err)
}

func resumeFiles(ctx context.Context, o *Options, loc *time.Location, logFile string, stdio Stdio) (int, error) {
	from, err := loadCheckpoint(o.Checkpoint)
	if err != nil {
		return 0, err
	}
	in := o.input(logFile, stdio)
	paths, err := in.Files()
	if err != nil {
		return 0, err
	}
	piped := slices.Contains(paths, logscan.Stdin)
	if piped {
		fmt.Fprintln(stdio.Err, "Warning - checkpointing stdin is not supported")
	} else if from != nil && !o.CheckpointTime && (o.Input == "" || paths[0] != o.Input) {
		i := slices.IndexFunc(paths, from.isIn)
		if i < 0 {
			return 0, &CheckpointError{codeInvalid, "the log that " + o.Checkpoint + " speaks of is gone; --start checkpoint goes on by its time"}
		}
		paths = paths[i:]
	}
	logs, err := in.OpenFiles(paths)
	if err != nil {
		return 0, err
	}
	defer logs.Close()
	w := output.NewWriter(stdio.Out, &o.Config, loc)
	r := &resume{o: o, match: query.NewMatcher(&o.Query), w: w, from: from, file: len(paths) - 1}
	cfg := logscan.ReadConfig{EOETimeout: o.EOETimeout, Skipped: o.skipped(stdio, new(atomic.Int64))}
	err = closeWriter(w, logs.ReadComplete(ctx, cfg, r.event))
	if err != nil || piped {
		return r.found, err
	}
	cp := checkpoint{last: r.last}
	if cp.dev, cp.inode, err = place(paths[r.file]); err != nil {
		return r.found, err
	}
	return r.found, errors.Join(cp.save(o.Checkpoint), logs.Damage())
}

// isIn says whether a log is the one the checkpoint speaks of.
func (cp *checkpoint) isIn(path string) bool {
	dev, inode, err := place(path)
	return err == nil && dev == cp.dev && inode == cp.inode
}

// event takes the next complete event, of a log by its number.
func (r *resume) event(ev *event.Event, file int) error {
	isNew, err := r.isNew(ev)
	if err != nil {
		return err
	}
	r.last, r.file = markOf(ev), file
	if !isNew || !r.match.Match(ev) {
		return nil
	}
	r.found++
	if err := r.w.Event(ev); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	if r.o.JustOne {
		return query.ErrStop
	}
	return nil
}

// isNew says whether an event comes after those of the time before.
func (r *resume) isNew(ev *event.Event) (bool, error) {
	if r.passed || r.from == nil || r.from.last.sec == 0 {
		return true, nil
	}
	last := &r.from.last
	if r.o.CheckpointTime {
		r.passed = ev.Ms >= last.sec*1000+last.milli
		return r.passed, nil
	}
	if last.is(ev) {
		r.passed = true
		return false, nil
	}
	if ev.Ms/1000 > last.sec+lateness {
		return false, &CheckpointError{codeMissing, fmt.Sprintf("Corrupted checkpoint file. Inode match, but newer complete event "+
			"(%d.%03d:%d) found before loaded checkpoint %d.%03d:%d", ev.Ms/1000, ev.Ms%1000, ev.Serial, last.sec, last.milli, last.serial)}
	}
	return false, nil
}
