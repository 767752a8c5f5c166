package retention

import (
	"cmp"
	"slices"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// How old a part is, and what day it is today, both come from the machine's clock, and a
// clock can be wrong: at its epoch after a start, a year ahead after a mistyped date.
// Neither may cost the events of a fleet. So the order in which batches were stored (LastID)
// counts before the days that the parts are named by. And a day that lies far behind the one
// before it counts as today only once other days have followed it.

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

// ages has the parts that there are, the oldest first.
type ages struct {
	list  []age
	today store.Day // the day that limits are counted from
	clock store.Day // the clock's day; later than today while it is not believed
}

// age is a part and the day that it counts as.
type age struct {
	*store.PartStats
	day store.Day
}

// late reports whether a part has events that were received on a later day than that on which they happened.
func (x *age) late(clock store.Day) bool { return x.Compacted && x.Day < x.Received && x.Day <= clock }

// agesOf orders parts, which come by day and number, by their age. Those that are held say nothing of
// what day it is: they may be old, with what followed them dropped long ago. held may be nil.
func agesOf(parts []store.PartStats, clock store.Day, held func(*store.PartStats) bool) ages {
	a := ages{clock: clock}
	for i := range parts {
		a.list = append(a.list, age{&parts[i], parts[i].Day})
	}
	slices.SortStableFunc(a.list, func(x, y age) int { return cmp.Compare(x.LastID, y.LastID) })
	// A part counts as no older than any that was stored before it. One whose day cannot be
	// right counts as old as its successor. Parts without events tell nothing about others. A part of late events, or of an
	// import, is as old as these: its day is theirs, and says nothing of when others were stored.
	can := func(d store.Day) bool { return d >= firstDay && d <= clock }
	latest := store.Day(0)
	for i := range a.list {
		if x := &a.list[i]; !x.late(clock) && can(x.day) && x.LastID > 0 {
			latest = max(latest, x.day)
			x.day = latest
		}
	}
	next := clock
	for i := len(a.list) - 1; i >= 0; i-- {
		switch x := &a.list[i]; {
		case x.late(clock):
		case !can(x.Day):
			x.day = next
		case x.LastID > 0:
			next = x.day
		}
	}
	slices.SortStableFunc(a.list, func(x, y age) int { return cmp.Compare(x.day, y.day) })
	var days []store.Day
	for i := range parts {
		if held == nil || !held(&parts[i]) {
			days = append(days, parts[i].Received)
		}
	}
	slices.Sort(days)
	a.today = believed(days, clock, can)
	return a
}

// believed returns the day that counts as today. That is the clock's, unless the clock has
// just jumped over a gap between stored days: then it is the last day before the gap.
func believed(days []store.Day, clock store.Day, can func(store.Day) bool) store.Day {
	first := clock // of the days that follow each other up to the clock's
	for _, d := range slices.Backward(days) {
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

// without returns a without a part.
func (a ages) without(p *store.PartStats) ages {
	a.list = slices.DeleteFunc(slices.Clone(a.list), func(x age) bool { return x.PartStats == p })
	return a
}

// oldest returns the oldest sealed part that is not held; nil when there is none. held may be nil.
func (a ages) oldest(held func(*store.PartStats) bool) *store.PartStats {
	for _, x := range a.list {
		if x.Sealed && (held == nil || !held(x.PartStats)) {
			return x.PartStats
		}
	}
	return nil
}

// beyond returns the limit by which the oldest sealed part that is not held has to be dropped, ""
// for none. size is what the store takes on the disk, held parts included. held may be nil.
func (l Limits) beyond(a ages, size uint64, held func(*store.PartStats) bool) string {
	if l.MaxDays <= 0 && l.MaxBytes <= 0 {
		return ""
	}
	for _, x := range a.list {
		if !x.Sealed || held != nil && held(x.PartStats) {
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
