package search

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/logscan"
	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// resume is a search of logs that continues an earlier one.
type resume struct {
	o     *Options
	match *query.Matcher
	w     output.Writer
	cfg   logscan.ReadConfig
	logs  *openLogs
	from  *checkpoint // nil: from the beginning

	passed bool        // the event where the earlier search ended
	left   earlyEvents // printed early by it, and not met in this one
	before []digest    // of events that wait before the one where it ended
	last   mark        // of this one
	count  uint64      // of complete events
	early  earlyEvents // printed, and not complete
	held   bool        // an event may get more records: it and what comes after it wait
	enough bool        // --just-one was found
	found  int
}

// lateness is how much younger a preceding event may be than a complete one, in seconds.
const lateness = 2 // seconds

// errNotThere is returned when the logs do not have the event of the checkpoint in its
// place.
var errNotThere = errors.New("search: the event of the checkpoint is not in its place")

// runCheckpoint is RunFiles with --checkpoint.
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
	r := &resume{o: o, match: query.NewMatcher(&o.Query), w: output.NewWriter(stdio.Out, &o.Config, loc), from: from}
	r.cfg = logscan.ReadConfig{EOETimeout: o.EOETimeout, Skipped: o.skipped(stdio, new(atomic.Int64))}
	in := o.input(logFile, stdio)
	if r.logs, err = openFrom(o, in, from); err != nil {
		return 0, err
	}
	defer func() { r.logs.Close() }()
	start, err := r.read(ctx)
	if errors.Is(err, errNotThere) {
		// The log has changed, or was read otherwise: by an older version, say. What the
		// stock tool goes by decides then.
		from.nth, r.cfg.Skipped = 0, nil
		r.logs.Close()
		if r.logs, err = openFrom(o, in, from); err != nil {
			return 0, err
		}
		start, err = r.read(ctx)
	}
	if err = closeWriter(r.w, err); err != nil || r.logs.piped {
		return r.found, err
	}
	cp := checkpoint{last: r.last, early: r.early, nth: r.count}
	if start > 0 {
		if cp.nth, err = r.countFrom(ctx, start); err != nil {
			return r.found, err
		}
		if cp.nth == 0 {
			start, cp.nth = 0, r.count
		}
	}
	if cp.log, err = logIDOf(r.logs.File(start)); err != nil {
		return r.found, err
	}
	cp.nothing = (from == nil || from.nothing) && cp.nth == 0 && len(cp.early) == 0 && cp.log.first == (digest{})
	return r.found, errors.Join(cp.save(o.Checkpoint), r.logs.Damage())
}

// read writes what is new in the logs. start is the log with which the next reading may
// begin.
func (r *resume) read(ctx context.Context) (start int, err error) {
	r.passed, r.left = true, earlyEvents{}
	if r.from != nil {
		r.passed = r.from.last.sec == 0
		r.left.add(r.from.early)
	}
	r.before, r.last, r.count, r.early = nil, mark{}, 0, earlyEvents{}
	r.cfg.Growing = !r.logs.quiet()
	start, err = r.logs.ReadComplete(ctx, r.cfg, r.complete, r.incomplete)
	if r.enough {
		r.early.add(r.left) // not all was read
	}
	if err == nil && !r.passed && r.byPlace() {
		err = errNotThere
	}
	return start, err
}

// countFrom returns which event the last complete one is in a reading that begins with
// another log; 0 when it is not in there.
func (r *resume) countFrom(ctx context.Context, start int) (nth uint64, err error) {
	logs, err := r.logs.From(start)
	if err != nil {
		return 0, err
	}
	defer logs.Close()
	n := uint64(0)
	cfg := logscan.ReadConfig{EOETimeout: r.o.EOETimeout, Growing: r.cfg.Growing}
	_, err = logs.ReadComplete(ctx, cfg, func(ev *event.Event) error {
		if n++; r.last.is(ev) {
			nth = n
		}
		return nil
	}, func(*event.Event, bool) error { return nil })
	return nth, err
}

// complete takes the next event that is complete.
func (r *resume) complete(ev *event.Event) error {
	r.count++
	isNew, err := r.isNew(ev)
	if err != nil {
		return err
	}
	r.last = markOf(ev)
	if !isNew || !r.match.Match(ev) || len(r.left) > 0 && r.left.take(logDigestOf(ev)) {
		return nil
	}
	if err := r.write(ev); err != nil {
		return err
	}
	if r.enough {
		return query.ErrStop
	}
	return nil
}

// incomplete takes the next event that is not complete, once all were read. It is written
// where no more of it is to be expected, and known by its digest the next time. The event
// where a search of 4.2.2 ended may be one of these, and then it has printed those before
// it.
func (r *resume) incomplete(ev *event.Event, ended bool) error {
	if !r.passed && r.byPlace() {
		return nil
	}
	var d digest
	matches := r.match.Match(ev)
	if matches {
		if d = logDigestOf(ev); r.left.take(d) {
			r.early[d]++
			return nil
		}
	}
	if !r.passed {
		isNew, _ := r.isNew(ev) // that one is not there is said once others are complete
		if !isNew && matches {
			r.before = append(r.before, d)
		}
		if r.passed {
			for _, d := range r.before {
				r.early[d]++
			}
		}
		if !isNew {
			return nil
		}
	}
	r.held = r.held || len(r.early) >= maxEarly || !ended && !r.logs.quiet()
	if r.held || r.enough || !matches {
		return nil
	}
	r.early[d]++
	return r.write(ev)
}

func (r *resume) write(ev *event.Event) error {
	r.found++
	r.enough = r.o.JustOne
	if err := r.w.Event(ev); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	return nil
}

// byPlace says whether the event of the checkpoint is known by its place.
func (r *resume) byPlace() bool { return r.from != nil && r.from.nth > 0 && !r.o.CheckpointTime }

// isNew says whether an event comes after those of the time before.
func (r *resume) isNew(ev *event.Event) (bool, error) {
	if r.passed {
		return true, nil
	}
	last := &r.from.last
	if r.o.CheckpointTime {
		r.passed = ev.Ms >= last.sec*1000+last.milli
		return r.passed, nil
	}
	if r.byPlace() {
		if r.count < r.from.nth {
			return false, nil
		}
		if !last.is(ev) {
			return false, errNotThere
		}
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
