package alert

import (
	"fmt"
	"strings"
	"time"
)

// Collector is how the collector itself stands.
type Collector struct {
	Low, VeryLow, Full, Suspended bool   // its disk, and storing
	Free                          uint64 // bytes of the disk
	Faults                        []Fault
	Dropped                       uint64 // of its own records, since the start
	// Keep is what retention has to go by; nil: it is not known.
	Keep *Keep
}

// Fault is something wrong with the collector.
type Fault struct {
	Kind    string // a word, of which an alert is made
	Summary string
}

// Keep is what there is for retention to drop.
type Keep struct {
	Days     []Day // the oldest first
	Bytes    int64 // that the store takes
	MaxBytes int64 // max_bytes; 0: any
	MaxDays  int64 // max_days; 0: all
	Free     int64 // bytes until days are dropped for want of space; negative: they never are
	Today    int64 // as Day.Day
	// Next is the day of what would be dropped first, and NextDays for how many days that is to be kept, 0 for ever: where classes of
	// events are kept for times of their own. Next is 0 where the first of Days would be.
	Next, NextDays int64
	Classes        []ClassKeep // those with a size and a number of days of their own
}

// ClassKeep is what there is of a class of events.
type ClassKeep struct {
	Class                  string
	Bytes, MaxBytes, Daily int64
	Oldest, Days           int64 // its first day, as Day.Day, and for how many days it is to be kept
}

// Day is a day of which events are stored.
type Day struct {
	Day   int64 // since 1970
	Bytes int64
}

// soon is within how many days a day must be dropped for retention to be near.
const soon = 7

// collector looks at the collector itself. mu is held.
func (e *Evaluator) collector(c *Collector) {
	e.by = ""
	space := func(is bool, kind string, s Severity, format string, args ...any) {
		if is && !e.rules.Settings[CollectorSpace].Off {
			e.find(found{cond: CollectorSpace, labels: map[string]string{"kind": kind}, severity: s, value: fmt.Sprintf("%d MiB free", c.Free>>20), summary: fmt.Sprintf(format, args...)})
		}
	}
	low := e.rules.Settings[CollectorSpace].Severity
	if low == Critical {
		low = Warning
	}
	free := fmt.Sprintf("%d MiB", c.Free>>20)
	space(c.Low && !c.VeryLow && !c.Full, "low", low, "the collector's disk has %s free, less than space_left: make room, or lower max_bytes", free)
	space(c.VeryLow && !c.Full, "very-low", "", "the collector's disk has %s free, less than admin_space_left: make room", free)
	space(c.Full, "full", "", "the collector's disk is full (%s free): records are refused until there is room", free)
	space(c.Suspended, "suspended", "", "storing is suspended by an action: records are refused until SIGUSR2")
	if e.rules.Settings[CollectorError].Off {
		e.dropped = c.Dropped
	} else {
		e.faults(c)
	}
	e.retention(c.Keep)
}

func (e *Evaluator) faults(c *Collector) {
	for _, f := range c.Faults {
		cond := CollectorError
		if f.Kind == "seal" {
			cond = Seal
		}
		if !e.rules.Settings[cond].Off {
			e.find(found{cond: cond, labels: map[string]string{"kind": f.Kind}, value: f.Kind, summary: f.Summary})
		}
	}
	if c.Dropped < e.dropped { // it was started again
		e.dropped = 0
	}
	if n := c.Dropped - e.dropped; n > 0 {
		e.dropped = c.Dropped
		e.droppedAt, e.droppedAll = e.up, e.droppedAll+n
	}
	if e.droppedAll > 0 && e.up-e.droppedAt < e.rules.Hold.Milliseconds() {
		e.find(found{cond: CollectorError, labels: map[string]string{"kind": "own-records"}, value: fmt.Sprintf("%d records", e.droppedAll),
			summary: fmt.Sprintf("%d of the collector's own records were not stored: more came than the journal took, or the disk is full", e.droppedAll)})
	} else {
		e.droppedAll = 0
	}
	e.tooMany()
}

// tooMany says for alert_hold that there was no room for alerts: what was counted then is told by
// none.
func (e *Evaluator) tooMany() {
	if e.up-e.beyondAt >= e.rules.Hold.Milliseconds() {
		e.beyondMost = 0
	}
	if e.beyond > 0 {
		e.beyondMost, e.beyondAt = max(e.beyondMost, e.beyond), e.up
	}
	if e.beyondMost == 0 {
		return
	}
	who := ""
	if e.beyondBy != byProved {
		who = ", such as of hosts that send from " + string(e.beyondBy)
	}
	e.find(found{cond: CollectorError, labels: map[string]string{"kind": "alerts"}, value: fmt.Sprint(e.beyondMost),
		summary: fmt.Sprintf("there were as many alerts as there may be, and %d more are not told apart%s: see alert_ignore and trusted_senders", e.beyondMost, who)})
}

// retention looks whether days will be dropped that are to be kept.
func (e *Evaluator) retention(k *Keep) {
	if k == nil || e.rules.Settings[RetentionNear].Off || len(k.Days) < 2 {
		return
	}
	room := int64(-1) // bytes until something is dropped
	if k.MaxBytes > 0 {
		room = max(0, k.MaxBytes-k.Bytes)
	}
	if k.Free >= 0 && (room < 0 || k.Free < room) {
		room = k.Free
	}
	whole := k.Days[:len(k.Days)-1] // the last is not over
	latest := whole[max(0, len(whole)-7):]
	daily := int64(0)
	for _, d := range latest {
		daily += d.Bytes / int64(len(latest))
	}
	next := dropping{day: k.Days[0].Day, wanted: k.MaxDays, room: room, daily: daily, more: "raise max_bytes, give the store a larger disk"}
	if k.Next != 0 {
		next.day, next.wanted = k.Next, k.NextDays
	}
	e.near(k.Today, next)
	for _, c := range k.Classes {
		e.near(k.Today, dropping{class: c.Class, day: c.Oldest, wanted: c.Days, room: max(0, c.MaxBytes-c.Bytes), daily: c.Daily, more: "raise its size in retain"})
	}
}

// dropping is what is dropped next by a limit on bytes.
type dropping struct {
	class       string // "": of all
	day         int64
	wanted      int64 // days that it is to be kept; 0: for ever, or nobody says
	room, daily int64 // bytes until it is dropped, negative for never, and that a day takes
	more        string
}

// near finds that something will be dropped before its time.
func (e *Evaluator) near(today int64, d dropping) {
	if limit := e.limit(RetentionNear); limit != 0 {
		d.wanted = limit
	}
	if d.wanted == 0 || d.room < 0 || d.daily <= 0 {
		return
	}
	left := d.room / d.daily
	age := today - d.day + left + 1
	if left > soon || age >= d.wanted {
		return
	}
	f := found{cond: RetentionNear, value: fmt.Sprintf("%d days", age)}
	of := ""
	if d.class != "" {
		of, f.labels = " of "+readable(d.class), map[string]string{"class": d.class}
	}
	f.summary = fmt.Sprintf("in %s the day %s%s will be dropped, %d days old, and %d are to be kept: %s, or record less (%d MiB a day)",
		plural(left, "day"), time.Unix(d.day*86400, 0).UTC().Format(time.DateOnly), of, age, d.wanted, d.more, d.daily>>20)
	e.find(f)
}

func plural(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strings.TrimSpace(fmt.Sprintf("%d %ss", n, what))
}
