package rewrite

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// Job is what is to be rewritten, and how.
type Job struct {
	Codec   *group.Codec
	Store   seglog.ID
	Sources []*Source
	Mark    layout.Compacted // of the files that are made: its Sources, Class and Received
	// Classes divide the events of each day into files of their own, the rest first; none: they are of the mark's class.
	Classes store.Classes
	// Day is that of all sources: events go there that go to no other day. Oldest is how many days older than that one an event may be to
	// go to its own; 0: all stay. Most is how many other days get files, at most: those with the most events.
	Day          store.Day
	Oldest, Most int
	// Alone says that the sources have nothing but events: then the job's day gets no file where it has none.
	Alone bool
	// Part returns the part of a day that is to be written, and Path where. Part is called once for each file.
	Part func(store.Day) (store.Part, error)
	Path func(store.Part) string
	// Pace is that of bytes of records: of those that are read, and once more of those that are read again.
	Pace *Pace
}

// Made is a partition that was written.
type Made struct {
	store.Part
	Path        string
	Groups      []group.Summary // by their numbers, from 1
	First, Last uint64          // batches; 0 where there are no events
}

// ErrDiffers is returned when what was written is not what was read.
var ErrDiffers = errors.New("what was rewritten is not what was there")

// mostBeside is how many groups are read side by side, each with a frame in memory; what more there are goes into groups behind those of the first.
const mostBeside = 512

// letGoBytes is how many bytes of records are read until what was mapped of the files for it leaves this process's memory: nearly all of it is not read again.
const letGoBytes = 64 << 20

// stepEvents is how many events are rewritten between two looks at the clock and the context.
const stepEvents = 512

// Run rewrites the events of all sources: the files are whole and durable when it returns, and were read again. The first is that of
// the job's day, which may have no events; see Alone. After an error there are none. It works in the caller's goroutine, and what
// it needs is the frames of mostBeside groups, and one group that is made.
func (j *Job) Run(ctx context.Context) (made []Made, err error) {
	made, err = j.run(ctx, false)
	if errors.Is(err, ErrDiffers) { // an older program read other times in some
		made, err = j.run(ctx, true)
	}
	return made, err
}

func (j *Job) run(ctx context.Context, exact bool) (made []Made, err error) {
	r := &run{Job: j, ctx: ctx, sums: newSummer()}
	whole := false // a panic on damaged bytes leaves nothing, either
	defer func() {
		if !whole {
			for _, m := range made {
				err = errors.Join(err, os.Remove(m.Path))
			}
			made = nil
		}
	}()
	for _, s := range j.Sources {
		r.groups = append(r.groups, s.Groups...)
	}
	d := &days{home: j.Day, oldest: j.Oldest, exact: exact}
	if err := d.count(j.Codec, r.groups, j.Most, func(int) error { return ctx.Err() }); err != nil {
		return nil, err
	}
	list := slices.Sorted(maps.Keys(d.keep))
	if !j.Alone || slices.ContainsFunc(d.groups, func(has map[store.Day]bool) bool { return has[j.Day] }) {
		list = slices.Insert(list, 0, j.Day)
	}
	mark := j.Mark
	files, err := j.divide(d, r.groups, list)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		part, err := j.Part(f.day)
		if err != nil {
			return nil, err
		}
		mark.Parts = append(mark.Parts, part)
	}
	r.of = store.NewClassifier(j.Classes)
	var all tally
	for i, f := range files {
		mark.Class = f.name
		m, sum, err := r.write(d, f, mark, mark.Parts[i])
		if err != nil {
			return made, fmt.Errorf("%s: %w", mark.Parts[i], err)
		}
		made = append(made, m)
		all.Events, all.Records = all.Events+sum.Events, all.Records+sum.Records
		if err := r.check(&m, sum); err != nil {
			return made, err
		}
	}
	var want tally
	for i := range r.groups {
		want.Events, want.Records = want.Events+r.groups[i].Sum.Events, want.Records+r.groups[i].Sum.Records
	}
	if all.Events != want.Events || all.Records != want.Records {
		return made, fmt.Errorf("%w: %d events with %d records were written, %d with %d are there", ErrDiffers, all.Events, all.Records, want.Events, want.Records)
	}
	whole = true
	return made, nil
}

// run is a job that is being done.
type run struct {
	*Job
	ctx    context.Context
	groups []Group // of all sources
	sums   *summer
	of     *store.Classifier
	bytes  uint64 // of records, since Pace was told
	events int
	mapped uint64  // of records, since letGo
	again  *Source // that is checked; nil: none
}

// write writes the events of one file, and returns what they are together.
func (r *run) write(d *days, is division, mark layout.Compacted, part store.Part) (_ Made, sum tally, err error) {
	f, err := create(r.Path(part), part, r.Store)
	if err != nil {
		return Made{}, sum, err
	}
	whole := false // as in run
	defer func() {
		if !whole {
			err = errors.Join(err, f.remove())
		}
	}()
	from, to := d.span(is.day)
	var wanted []Group
	for i := range r.groups {
		if d.groups[i][is.day] && is.in(i) {
			wanted = append(wanted, r.groups[i])
		}
	}
	var odd strays
	var b *group.Builder
	finish := func() error {
		if b == nil {
			return nil
		}
		blob, s, err := b.Finish()
		b = nil
		if err == nil {
			err = f.add(r.Codec, blob, s)
		}
		return err
	}
	put := func(h *head) error {
		if d.of(h.ev.Ms) == is.day && (is.groups == nil || r.of.Of(h.host, h.ev) == is.class) {
			if b == nil {
				b = r.Codec.NewBuilder()
			}
			if err := b.Add(h.host, h.batch, h.ev); err != nil {
				return err
			}
			f.filter.AddSerial(h.ev.Serial)
			r.sums.add(&sum, h.host, h.batch, h.ev)
			if b.Full() {
				if err := finish(); err != nil {
					return err
				}
			}
		}
		return r.step(h.ev)
	}
	apart := func() error { return errors.Join(finish(), odd.flush(put), finish()) }
	for beside := range slices.Chunk(wanted, mostBeside) {
		m, err := newMerge(r.Codec, beside, func(int) bool { return true }, from, to, odd.add)
		if err != nil {
			return Made{}, sum, err
		}
		for h := m.top(); h != nil; h = m.top() {
			if err := errors.Join(put(h), m.pop()); err != nil {
				return Made{}, sum, err
			}
			if odd.bytes > strayBytes {
				if err := apart(); err != nil {
					return Made{}, sum, err
				}
			}
		}
		if err := apart(); err != nil { // the next ones begin anew
			return Made{}, sum, err
		}
	}
	made, err := f.finish(mark)
	whole = err == nil
	return made, sum, err
}

// step counts an event, and now and then looks whether to go on, and when.
func (r *run) step(ev *event.Event) error {
	r.bytes += uint64(ev.Size())
	if r.events++; r.events%stepEvents != 0 {
		return nil
	}
	n := r.bytes
	r.bytes = 0
	if r.mapped += n; r.mapped >= letGoBytes {
		r.mapped = 0
		for _, s := range r.Sources {
			s.letGo()
		}
		r.again.letGo()
	}
	return r.Pace.Done(r.ctx, n)
}

// check reads a file that was written, and compares its events with those that were to go there.
func (r *run) check(m *Made, want tally) (err error) {
	s, err := Open(m.Path, m.Part)
	if err != nil {
		return fmt.Errorf("read it again: %w", err)
	}
	r.again = s
	defer func() {
		r.again = nil
		err = errors.Join(err, s.Close())
	}()
	var got tally
	for i := range s.Groups {
		if i >= len(m.Groups) || s.Groups[i].Sum != m.Groups[i] {
			return fmt.Errorf("%s: %w: group %d", m.Path, ErrDiffers, i+1)
		}
		mg, err := newMerge(r.Codec, s.Groups[i:i+1], func(int) bool { return true }, minMs, maxMs, func(h *head) { r.sums.add(&got, h.host, h.batch, h.ev) })
		if err != nil {
			return fmt.Errorf("read %s again: %w", m.Path, err)
		}
		for h := mg.top(); h != nil; h = mg.top() {
			r.sums.add(&got, h.host, h.batch, h.ev)
			if err := r.step(h.ev); err != nil {
				return err
			}
			if err := mg.pop(); err != nil {
				return fmt.Errorf("read %s again: %w", m.Path, err)
			}
		}
	}
	if got != want {
		return fmt.Errorf("%s: %w: %d events with %d records, or others than these, were to be %d with %d", m.Path, ErrDiffers, got.Events, got.Records, want.Events, want.Records)
	}
	return nil
}
