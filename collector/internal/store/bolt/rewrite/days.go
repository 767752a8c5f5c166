package rewrite

import (
	"cmp"
	"errors"
	"io"
	"math"
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
)

const dayMs = 24 * 60 * 60 * 1000

// minMs and maxMs are before and behind all times.
const (
	minMs = math.MinInt64
	maxMs = math.MaxInt64
)

// dayOf returns the day of a time in milliseconds.
func dayOf(ms int64) store.Day {
	d := ms / dayMs
	if ms%dayMs < 0 {
		d--
	}
	if d != int64(store.Day(d)) {
		return math.MinInt32
	}
	return store.Day(d)
}

// days says to which day events go that were received on one.
type days struct {
	home   store.Day
	oldest int                  // an event older than so many days stays at home; 0: all do
	exact  bool                 // events are read to be counted: what a group says of their times is not what they say
	keep   map[store.Day]bool   // other days that get a file; nil: not decided yet
	groups []map[store.Day]bool // by group of all sources: which days it has events of
}

// of returns the day of an event: that of its time where its host's clock can be trusted, and where that day gets a
// file. No clock is a day ahead.
func (d *days) of(ms int64) store.Day {
	day := dayOf(ms)
	if day == d.home || ms == 0 || d.oldest == 0 || day > d.home+1 || day < d.home-store.Day(d.oldest) || d.keep != nil && !d.keep[day] {
		return d.home
	}
	return day
}

// count counts the events of each day, and lets those days have a file of their own that have the most, so many at most.
func (d *days) count(c *group.Codec, groups []Group, most int, step func(events int) error) error {
	counts := map[store.Day]uint64{}
	if d.oldest == 0 {
		d.keep = map[store.Day]bool{}
		for range groups {
			d.groups = append(d.groups, map[store.Day]bool{d.home: true})
		}
		return nil
	}
	for i := range groups {
		has := map[store.Day]bool{}
		if err := d.countGroup(c, &groups[i], step, func(day store.Day, n uint64) {
			has[day] = true
			counts[day] += n
		}); err != nil {
			return err
		}
		d.groups = append(d.groups, has)
	}
	delete(counts, d.home)
	list := make([]store.Day, 0, len(counts))
	for day := range counts {
		list = append(list, day)
	}
	slices.SortFunc(list, func(a, b store.Day) int { return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(b, a)) })
	d.keep = map[store.Day]bool{}
	for _, day := range list[:min(most, len(list))] {
		d.keep[day] = true
	}
	for _, has := range d.groups {
		for day := range has {
			if day != d.home && !d.keep[day] {
				has[d.home] = true
			}
		}
	}
	return nil
}

// countGroup counts a group's events: by its blocks, where none of these has two days.
func (d *days) countGroup(c *group.Codec, g *Group, step func(events int) error, add func(store.Day, uint64)) error {
	if s := &g.Sum; !d.exact && s.MinMs != 0 && dayOf(s.MinMs) == dayOf(s.MaxMs) {
		add(d.of(s.MinMs), s.Events)
		return nil
	}
	blocks := c.Listed(g.Bytes)
	// A block with time 0 has lines that were no records to the program that wrote it.
	mixed := d.exact || len(blocks) == 0 || slices.ContainsFunc(blocks, func(b group.Block) bool { return b.MinMs == 0 || dayOf(b.MinMs) != dayOf(b.MaxMs) })
	if !mixed {
		for i := range blocks {
			add(d.of(blocks[i].MinMs), uint64(blocks[i].Events))
		}
		return nil
	}
	opened, err := c.Open(g.Bytes)
	if err != nil {
		return err
	}
	cur, err := opened.Cursor(g.ID, minMs, maxMs)
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		_, _, ev, err := cur.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		add(d.of(ev.Ms), 1)
		if n%stepEvents == 0 {
			if err := step(stepEvents); err != nil {
				return err
			}
		}
	}
}

// span returns between which times all events of a day lie: everywhere for home, which has those whose clocks are not
// trusted.
func (d *days) span(day store.Day) (from, to int64) {
	if day == d.home || d.exact {
		return minMs, maxMs
	}
	return int64(day) * dayMs, (int64(day) + 1) * dayMs
}
