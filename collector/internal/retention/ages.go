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

// days returns how many days a part is kept; 0 is for ever. What is not divided by the classes that there are is kept for the
// longest of them.
func (l Limits) days(p *store.PartStats) int {
	longest := l.MaxDays
	for _, r := range l.Rules {
		if p.Class == r.Class.String() && r.Days > 0 {
			return r.Days
		}
		if p.Class == r.Class.String() {
			return l.MaxDays
		}
		if longest > 0 && r.Days > 0 {
			longest = max(longest, r.Days)
		}
	}
	if len(l.Rules) == 0 || p.Class == l.Rules.Classes().Rest() {
		return l.MaxDays
	}
	return longest
}

// forEver is later than the end of all that is kept for a number of days.
const forEver = 1 << 40

// end is the day on which a part's time is over.
func (l Limits) end(x *age) int64 {
	days := l.days(x.PartStats)
	if days <= 0 {
		return int64(x.day) + forEver
	}
	return int64(x.day) + int64(days)
}

// oldest returns the sealed part that is not held and whose time is over first: without rules, the oldest one. nil when there is
// none. held may be nil.
func (l Limits) oldest(a ages, held func(*store.PartStats) bool) *store.PartStats {
	var first *age
	for i := range a.list {
		x := &a.list[i]
		if x.Sealed && (first == nil || l.end(x) < l.end(first)) && (held == nil || !held(x.PartStats)) {
			first = x
		}
	}
	if first == nil {
		return nil
	}
	return first.PartStats
}

// beyond returns the sealed part that is not held and has to be dropped next, and the limit by which; nil for
// none. size is what the store takes on the disk, held parts included. held may be nil.
func (l Limits) beyond(a ages, size uint64, held func(*store.PartStats) bool) (p *store.PartStats, reason string) {
	if l.MaxDays <= 0 && l.MaxBytes <= 0 && len(l.Rules) == 0 {
		return nil, ""
	}
	if p = l.oldest(a, held); p == nil {
		return nil, ""
	}
	for i := range a.list {
		if x := &a.list[i]; x.PartStats == p && l.end(x) <= int64(a.today) {
			if l.days(p) != l.MaxDays {
				return p, dropClass
			}
			return p, dropDays
		}
	}
	for _, r := range l.Rules {
		if p := l.beyondClass(&r, a, held); p != nil {
			return p, dropClass
		}
	}
	if l.MaxBytes > 0 && size > uint64(l.MaxBytes) {
		return p, dropBytes
	}
	return nil, ""
}

// beyondClass returns the oldest part of a class that takes more than its rule allows; nil for none.
func (l Limits) beyondClass(r *Rule, a ages, held func(*store.PartStats) bool) (oldest *store.PartStats) {
	if r.Bytes == 0 {
		return nil
	}
	size := uint64(0)
	for _, x := range a.list {
		if x.Class != r.Class.String() {
			continue
		}
		size += x.DiskBytes
		if oldest == nil && x.Sealed && (held == nil || !held(x.PartStats)) {
			oldest = x.PartStats
		}
	}
	if size <= uint64(r.Bytes) {
		return nil
	}
	return oldest
}
