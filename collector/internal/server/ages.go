package server

import (
	"cmp"
	"slices"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// How old a partition is, and what day it is today, both follow from the machine's
// clock, and a clock can be wrong: at its epoch after a start, a year ahead after a
// mistyped date. Neither may cost the trail of a fleet. So the order in which
// batches were stored goes before the partitions' names, and a day that is not
// joined to those before it has to last before anything is dropped by it.

const (
	// gapDays is how far two stored days may lie apart and be believed to follow
	// each other; beyond, the clock was moved, or the collector was off.
	gapDays = 2
	// believeAfter is how many days beyond a gap make the clock believed again.
	believeAfter = 2
)

// firstDay is before any day on which a collector can have run: a clock there was
// never set.
var firstDay = store.DayOf(time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC))

// ages is what there is of partitions, oldest first.
type ages struct {
	list  []age
	today store.Day // the day that limits are counted from
	clock store.Day // what the clock says; later than today while it is not believed
}

// age is a partition and the day it counts as.
type age struct {
	*store.DayStats
	day store.Day
}

// agesOf orders partitions by age.
func agesOf(days []store.DayStats, clock store.Day) ages {
	a := ages{clock: clock}
	for i := range days {
		a.list = append(a.list, age{&days[i], days[i].Day})
	}
	slices.SortStableFunc(a.list, func(x, y age) int { return cmp.Compare(x.LastID, y.LastID) })
	// No partition is older than what was stored before it. One whose day cannot
	// be is as old as its successor. Those without events say nothing of others.
	can := func(d store.Day) bool { return d >= firstDay && d <= clock }
	latest := store.Day(0)
	for i := range a.list {
		if x := &a.list[i]; can(x.day) && x.LastID > 0 {
			latest = max(latest, x.day)
			x.day = latest
		}
	}
	next := clock
	for i := len(a.list) - 1; i >= 0; i-- {
		switch x := &a.list[i]; {
		case !can(x.Day):
			x.day = next
		case x.LastID > 0:
			next = x.day
		}
	}
	slices.SortStableFunc(a.list, func(x, y age) int { return cmp.Compare(x.day, y.day) })
	a.today = believed(days, clock, can)
	return a
}

// believed is the day that the stored days speak for.
func believed(days []store.DayStats, clock store.Day, can func(store.Day) bool) store.Day {
	first := clock // of the days that follow each other up to the clock's
	for i := len(days) - 1; i >= 0; i-- {
		d := days[i].Day
		switch {
		case !can(d):
		case first-d <= gapDays:
			first = d
		case clock-first >= believeAfter:
			return clock
		default:
			return d
		}
	}
	return clock
}

// oldest is the first sealed partition; nil when there is none.
func (a ages) oldest() *store.DayStats {
	for _, x := range a.list {
		if x.Sealed {
			return x.DayStats
		}
	}
	return nil
}

// beyond says which limit asks for the oldest sealed partition to be dropped, ""
// for none.
func (r Retention) beyond(a ages, size uint64) string {
	for _, x := range a.list {
		if !x.Sealed {
			continue
		}
		switch {
		case r.MaxDays > 0 && int64(x.day) <= int64(a.today)-int64(r.MaxDays):
			return dropDays
		case r.MaxBytes > 0 && size > uint64(r.MaxBytes):
			return dropBytes
		}
		return ""
	}
	return ""
}

// sayClock logs once that max_days waits for the clock, and once that it need not.
func (s *Server) sayClock(a ages, maxDays int) {
	doubt := maxDays > 0 && a.today != a.clock
	if doubt == s.clockDoubted.Swap(doubt) {
		return
	}
	if doubt {
		s.cfg.Log.Warn("the clock is far beyond the last stored day: max_days counts from that day until the clock is put right, or two more days have passed",
			"clock", a.clock.String(), "last_stored", a.today.String())
		return
	}
	s.cfg.Log.Info("the clock agrees with the stored days: max_days counts from today", "today", a.today.String())
}
