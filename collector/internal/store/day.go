package store

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Day is a day of receipt, UTC, counted from 1970-01-01.
type Day int32

// DayOf returns the day that t lies in. Times before 1970 have negative days.
func DayOf(t time.Time) Day {
	s := t.Unix()
	d := s / 86400
	if s%86400 < 0 {
		d--
	}
	return Day(d)
}

// Time is the day's first instant.
func (d Day) Time() time.Time { return time.Unix(int64(d)*86400, 0).UTC() }

// String is the day as 2026-11-22.
func (d Day) String() string { return d.Time().Format(time.DateOnly) }

// ParseDay is the reverse of String.
func ParseDay(s string) (Day, error) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return 0, fmt.Errorf("day %q: %w", s, err)
	}
	return DayOf(t), nil
}

// Part names the unit in which an engine drops events: those of one day of receipt, or,
// where Rotate has divided the day, a run of its batches. An engine whose Rotate does
// nothing has one part a day.
type Part struct {
	Day Day
	N   int // which of the day's parts, from 1
}

// String is the part as 2026-11-22, its successors as 2026-11-22.2 and so on.
func (p Part) String() string {
	if p.N <= 1 {
		return p.Day.String()
	}
	return p.Day.String() + "." + strconv.Itoa(p.N)
}

// ParsePart is the reverse of String.
func ParsePart(s string) (Part, error) {
	name, num, more := strings.Cut(s, ".")
	day, err := ParseDay(name)
	p := Part{Day: day, N: 1}
	if err == nil && more {
		p.N, err = strconv.Atoi(num)
	}
	if err != nil || p.String() != s {
		return Part{}, fmt.Errorf("partition %q: want YYYY-MM-DD or YYYY-MM-DD.N", s)
	}
	return p, nil
}

// Compare orders by day, then by number.
func (p Part) Compare(q Part) int {
	return cmp.Or(cmp.Compare(p.Day, q.Day), cmp.Compare(p.N, q.N))
}
