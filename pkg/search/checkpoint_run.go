package search

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
)

// resume is a search of logs that goes on where an earlier one ended.
type resume struct {
	o      *Options
	match  *Matcher
	w      Writer
	from   *checkpoint // nil: from the beginning
	passed bool        // the place where the earlier one ended
	last   mark        // of this one
	file   int         // that it is in
	found  int
}

// lateness is how much younger than a complete event another can be before it.
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
		return 1
	}
	return o.Exit(found, stdio.Err)
}

func resumeFiles(ctx context.Context, o *Options, loc *time.Location, logFile string, stdio Stdio) (int, error) {
	from, err := loadCheckpoint(o.Checkpoint)
	if err != nil {
		return 0, err
	}
	paths, err := inputs(o.Input, o.InputLogs, logFile, stdio)
	if err != nil {
		return 0, err
	}
	piped := slices.Contains(paths, stdinName)
	if piped {
		fmt.Fprintln(stdio.Err, "Warning - checkpointing stdin is not supported")
	} else if from != nil && !o.CheckpointTime && (o.Input == "" || paths[0] != o.Input) {
		i := slices.IndexFunc(paths, from.isIn)
		if i < 0 {
			return 0, &CheckpointError{codeInvalid, "the log that " + o.Checkpoint + " speaks of is gone; --start checkpoint goes on by its time"}
		}
		paths = paths[i:]
	}
	logs, err := openAll(paths, stdio)
	if err != nil {
		return 0, err
	}
	defer logs.Close()
	w, err := NewWriter(stdio.Out, o, loc)
	if err != nil {
		return 0, err
	}
	r := &resume{o: o, match: NewMatcher(&o.Query), w: w, from: from, file: len(paths) - 1}
	cfg := ReadConfig{EOETimeout: o.EOETimeout}
	if o.Debug {
		cfg.Skipped = func(line []byte, err error) { fmt.Fprintf(stdio.Err, "skipped: %v: %.200q\n", err, line) }
	}
	err = closeWriter(w, r.read(ctx, cfg, logs.readers))
	if err != nil || piped {
		return r.found, err
	}
	cp := checkpoint{last: r.last}
	if cp.dev, cp.inode, err = place(paths[r.file]); err != nil {
		return r.found, err
	}
	return r.found, errors.Join(cp.save(o.Checkpoint), logs.damage())
}

// isIn says whether a log is the one the checkpoint speaks of.
func (cp *checkpoint) isIn(path string) bool {
	dev, inode, err := place(path)
	return err == nil && dev == cp.dev && inode == cp.inode
}

// read writes what is new of the logs' complete events.
func (r *resume) read(ctx context.Context, cfg ReadConfig, logs []io.Reader) error {
	now := 0                      // the log that is being read
	earlier := map[*pending]int{} // events that were open when it began, and their logs
	var ev event.Event
	o := newOrder(cfg.timeoutSec(), maxWaiting, func(p *pending) error {
		file := now
		if i, ok := earlier[p]; ok {
			file = i
			delete(earlier, p)
		}
		parsePieces(&ev, p.pieces)
		return r.event(&ev, file)
	})
	for i := range logs {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("search: %w", err)
		}
		now = i
		for _, p := range slices.Concat(o.waiting.row[o.waiting.at:], o.waiting.late) {
			if _, ok := earlier[p]; !ok {
				earlier[p] = i - 1
			}
		}
		if err := readAll(cfg, o, logs[i:i+1]); err != nil {
			if errors.Is(err, ErrStop) {
				return nil
			}
			return err
		}
	}
	return nil
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
		return ErrStop
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
