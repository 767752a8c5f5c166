package retention

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// retained plays a collector's days: each is stored in the order given, and after
// each the limits are looked at by that day's clock. It returns what is dropped.
func retained(maxDays int, clocks ...string) (kept []string, dropped []string) {
	var days []store.PartStats
	id := uint64(0)
	for _, c := range clocks {
		store1 := !strings.HasPrefix(c, "look ")
		day, err := store.ParseDay(strings.TrimPrefix(c, "look "))
		if err != nil {
			panic(err)
		}
		if store1 {
			id++
			found := false
			for i := range days {
				days[i].Sealed = days[i].Day != day
				if days[i].Day == day {
					days[i].LastID, found = id, true
				}
			}
			if !found {
				days = append(days, store.PartStats{Part: store.Part{Day: day, N: 1}, Received: day, LastID: id})
				for i := len(days) - 1; i > 0 && days[i].Day < days[i-1].Day; i-- {
					days[i], days[i-1] = days[i-1], days[i]
				}
			}
		}
		for {
			a := agesOf(days, day, nil)
			p, _ := (Limits{MaxDays: maxDays}).beyond(a, 0, nil)
			if p == nil {
				break
			}
			gone := p.Day
			dropped = append(dropped, gone.String())
			var rest []store.PartStats
			for _, d := range days {
				if d.Day != gone {
					rest = append(rest, d)
				}
			}
			days = rest
		}
	}
	for _, d := range days {
		kept = append(kept, d.Day.String())
	}
	return kept, dropped
}

// span is n days from a first one.
func span(first string, n int) (out []string) {
	d, err := store.ParseDay(first)
	if err != nil {
		panic(err)
	}
	for i := range n {
		out = append(out, (d + store.Day(i)).String())
	}
	return out
}

func TestClockJumps(t *testing.T) {
	cat := func(lists ...[]string) (out []string) {
		for _, l := range lists {
			out = append(out, l...)
		}
		return out
	}
	june := span("2026-06-01", 30)
	for _, c := range []struct {
		name          string
		clocks        []string
		kept, dropped []string
	}{
		{"days go by", span("2026-06-01", 35), span("2026-06-06", 30), span("2026-06-01", 5)},
		{"a weekend without anything", cat(june, []string{"2026-07-03"}), cat(june, []string{"2026-07-03"}), nil},
		{"and two days later", cat(june, span("2026-07-03", 3)), cat(span("2026-06-06", 25), span("2026-07-03", 3)), span("2026-06-01", 5)},
		{"a year ahead", cat(june, []string{"2027-06-30"}), cat(june, []string{"2027-06-30"}), nil},
		{"a year ahead for a night", cat(june, span("2027-06-30", 2)), cat(june, span("2027-06-30", 2)), nil},
		{"a year ahead, nothing stored since", cat(june, []string{"look 2027-06-30", "look 2027-07-30"}), june, nil},
		{"a year ahead for good", cat(june, span("2027-06-30", 3)), span("2027-06-30", 3), june},
		{"a year ahead and back", cat(june, []string{"2027-06-30"}, span("2026-07-01", 3)), cat(span("2026-06-04", 30), []string{"2027-06-30"}), span("2026-06-01", 3)},
		// What was stored ahead goes with the day on which it was put right.
		{"a year ahead and back, months ago", cat(june, []string{"2027-06-30"}, span("2026-07-01", 40)), span("2026-07-11", 30), cat(june, []string{"2027-06-30"}, span("2026-07-01", 10))},
		{"two days ahead cost two days", cat(june, []string{"2026-07-02"}), cat(span("2026-06-03", 28), []string{"2026-07-02"}), span("2026-06-01", 2)},
		{"a year back", cat(june, []string{"2025-06-30"}), cat([]string{"2025-06-30"}, june), nil},
		{"a year back and forth", cat(june, []string{"2025-06-30", "2026-07-01"}), cat([]string{"2025-06-30"}, span("2026-06-02", 30)), []string{"2026-06-01"}},
		{"at its epoch after a start", cat(june, []string{"1970-01-01", "2026-07-01"}), cat([]string{"1970-01-01"}, span("2026-06-02", 30)), []string{"2026-06-01"}},
		{"at its epoch from the first day on", []string{"1970-01-01", "2026-07-01"}, []string{"1970-01-01", "2026-07-01"}, nil},
		{"at its epoch, a month ago", cat([]string{"1970-01-01"}, span("2026-06-01", 31)), span("2026-06-02", 30), []string{"1970-01-01", "2026-06-01"}},
		{"off for a month", cat(span("2026-06-01", 5), []string{"2026-08-01"}), cat(span("2026-06-01", 5), []string{"2026-08-01"}), nil},
		{"off for a month, three days later", cat(span("2026-06-01", 5), span("2026-08-01", 3)), span("2026-08-01", 3), span("2026-06-01", 5)},
	} {
		t.Run(c.name, func(t *testing.T) {
			kept, dropped := retained(30, c.clocks...)
			if fmt.Sprint(kept) != fmt.Sprint(c.kept) || fmt.Sprint(dropped) != fmt.Sprint(c.dropped) {
				t.Errorf("kept    %v\nwant    %v\ndropped %v\nwant    %v", kept, c.kept, dropped, c.dropped)
			}
		})
	}
}

// The partition that SIGUSR1 has just begun is empty and says nothing of the age
// of others.
func TestAgesWithEmptyPartition(t *testing.T) {
	day := store.DayOf(time.Date(2026, 7, 30, 0, 0, 0, 0, time.UTC))
	days := []store.PartStats{
		{Part: store.Part{Day: day - 30, N: 1}, Received: day - 30, LastID: 5, Sealed: true},
		{Part: store.Part{Day: day - 1, N: 1}, Received: day - 1, LastID: 7, Sealed: true},
		{Part: store.Part{Day: day, N: 1}, Received: day, LastID: 9, Sealed: true},
		{Part: store.Part{Day: day, N: 2}, Received: day},
	}
	a := agesOf(days, day, nil)
	if d := (Limits{}).oldest(a, nil); d == nil || d.Part != days[0].Part {
		t.Errorf("the oldest is %v", d)
	}
	if a.today != day-30 {
		t.Errorf("limits are counted from %v: there is a gap of four weeks", a.today)
	}
	if _, got := (Limits{MaxBytes: 10}).beyond(agesOf(days[2:], day, nil), 11, nil); got != dropBytes {
		t.Errorf("a sealed part of today, too much stored: %q", got)
	}
}

// A day on hold from long ago makes no doubt of the clock, however few days follow it.
func TestAgesWithHeld(t *testing.T) {
	day := store.DayOf(time.Date(2026, 7, 30, 0, 0, 0, 0, time.UTC))
	parts := []store.PartStats{
		{Part: store.Part{Day: day - 300, N: 1}, Received: day - 300, LastID: 5, Sealed: true},
		{Part: store.Part{Day: day - 1, N: 1}, Received: day - 1, LastID: 7, Sealed: true},
		{Part: store.Part{Day: day, N: 1}, Received: day, LastID: 9},
	}
	held := func(p *store.PartStats) bool { return p.Day == day-300 }
	a := agesOf(parts, day, held)
	if _, reason := (Limits{MaxDays: 1}).beyond(a, 0, held); a.today != day || reason != dropDays || (Limits{}).oldest(a, held).Day != day-1 {
		t.Errorf("today counts as %v, the oldest is %v", a.today, (Limits{}).oldest(a, held))
	}
	if a := agesOf(parts, day, nil); a.today != day-300 {
		t.Errorf("not on hold it does: %v", a.today)
	}
}

// A part of events that came late is as old as these are, and says nothing of the age of others or of what day it is.
func TestAgesOfLateEvents(t *testing.T) {
	day := store.DayOf(time.Date(2026, 7, 30, 0, 0, 0, 0, time.UTC))
	var days []store.PartStats
	add := func(happened, received store.Day, last uint64) {
		days = append(days, store.PartStats{Part: store.Part{Day: happened, N: 1 + len(days)}, Received: received, LastID: last, Compacted: true, Sealed: true, DiskBytes: 1})
	}
	add(day-4000, day-1, 20) // an import
	add(day-40, day-2, 10)   // a host that was off for weeks
	add(day-20, day-20, 1)
	add(day-3, day-1, 20)
	add(day-2, day-2, 10)
	add(day-1, day-1, 20)
	days = append(days, store.PartStats{Part: store.Part{Day: day, N: 1}, Received: day, LastID: 21})
	var dropped []store.Day
	a := agesOf(days, day, nil)
	for {
		p, _ := (Limits{MaxDays: 30}).beyond(a, 0, nil)
		if p == nil {
			break
		}
		dropped = append(dropped, p.Day)
		a = a.without(p)
	}
	if want := []store.Day{day - 4000, day - 40}; !slices.Equal(dropped, want) || a.today != day {
		t.Errorf("dropped %v, want %v; today %v", dropped, want, a.today)
	}
	if a := agesOf(days[:1], day, nil); a.today != day-1 && a.today != day {
		t.Errorf("by an import alone it is %v", a.today)
	}
}
