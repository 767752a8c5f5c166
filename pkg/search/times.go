package search

import (
	"fmt"
	"time"

	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/timespec"
)

// checkpointWord asks to start at the time in the checkpoint file.
const checkpointWord = "checkpoint"

// clock is what times depend on. e has its defaults.
func (e *Env) clock() *timespec.Clock {
	return &timespec.Clock{Now: e.Now, Location: e.Location, DateLayout: output.DateLayout(e.Locale), Uptime: e.Uptime}
}

// time reads the words behind -ts or -te, in milliseconds since the epoch, and steps over
// them.
func (p *parser) time(kind timespec.Kind) (ms int64, err error) {
	words := p.args[p.pos+1:]
	words = words[:timespec.Words(words)]
	p.pos += len(words)
	clock := p.env.clock()
	if len(words) == 0 {
		err = clock.Required(p.name)
	} else {
		ms, err = clock.Read(kind, words...)
	}
	if err != nil {
		return 0, usagef("%v", err)
	}
	return ms, nil
}

// RangeNotes returns what has to be said of a range of times, in milliseconds since the
// epoch, in which nothing can be found; 0 is no bound.
func (e Env) RangeNotes(start, end int64) []string {
	e = e.withDefaults()
	text := func(ms int64) string { return time.UnixMilli(ms).In(e.Location).Format("2006-01-02 15:04:05 -07:00") }
	switch {
	case e.Stock:
	case start != 0 && end != 0 && start > end:
		return []string{fmt.Sprintf("NOTE - nothing can be found: it begins at %s, after its end at %s", text(start), text(end))}
	case start > e.Now.UnixMilli():
		return []string{fmt.Sprintf("NOTE - it begins at %s, which is yet to come", text(start))}
	}
	return nil
}

func (p *parser) startTime() (err error) {
	if p.pos+1 < len(p.args) && p.args[p.pos+1] == checkpointWord && timespec.Words(p.args[p.pos+1:]) == 1 {
		p.pos++
		p.o.CheckpointTime = true
		return nil
	}
	p.start, err = p.time(timespec.Start)
	return err
}

func (p *parser) endTime() (err error) {
	p.end, err = p.time(timespec.End)
	return err
}
