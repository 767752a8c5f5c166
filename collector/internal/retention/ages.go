package retention

import (
	"cmp"
	"slices"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// How old a part is, and what day it is today, both follow from the machine's clock,
// and a clock can be wrong: at its epoch after a start, a year ahead after a mistyped
// date. Neither may cost the trail of a fleet. So the order in which batches were
// stored (LastID) decides before the days that the parts are named by, and a day that
// does not follow closely on those before it has to be followed by others before
// anything is dropped by it.

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

// ages are the parts there are, the oldest first.
type ages struct {
	list  []age
	today store.Day // the day that limits are counted from
	clock store.Day // what the clock says; later than today while it is not believed
}

// age is a part and the day it counts as.
type age struct {
	*store.PartStats
	day store.Day
}

// agesOf orders parts, which come by day and number, by their age.
func agesOf(parts []store.PartStats, clock store.Day) ages {
	a := ages{clock: clock}
	for i := range parts {
		a.list = append(a.list, age{&parts[i], parts[i].Day})
	}
	slices.SortStableFunc(a.list, func(x, y age) int { return cmp.Compare(x.LastID, y.LastID) })
	// No part is older than what was stored before it. One whose day cannot
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
	a.today = believed(parts, clock, can)
	return a
}

// believed is today, as far as the stored days bear the clock out: the clock's day, or the last
// day before a gap that the clock has jumped over.
func believed(parts []store.PartStats, clock store.Day, can func(store.Day) bool) store.Day {
	first := clock // of the days that follow each other up to the clock's
	for i := len(parts) - 1; i >= 0; i-- {
		d := parts[i].Day
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

// oldest is the oldest sealed part; nil when there is none.
func (a ages) oldest() *store.PartStats {
	for _, x := range a.list {
		if x.Sealed {
			return x.PartStats
		}
	}
	return nil
}

// beyond says which limit asks for the oldest sealed part to be dropped, ""
// for none.
func (l Limits) beyond(a ages, size uint64) string {
	for _, x := range a.list {
		if !x.Sealed {
			continue
		}
		switch {
		case l.MaxDays > 0 && int64(x.day) <= int64(a.today)-int64(l.MaxDays):
			return dropDays
		case l.MaxBytes > 0 && size > uint64(l.MaxBytes):
			return dropBytes
		}
		return ""
	}
	return ""
}
