package timespec

import "time"

// civil is a date and time of day without a time zone.
type civil struct {
	year, month, day int
	hour, min, sec   int
}

func civilOf(t time.Time) civil {
	return civil{t.Year(), int(t.Month()), t.Day(), t.Hour(), t.Minute(), t.Second()}
}

func (c civil) midnight() civil {
	c.hour, c.min, c.sec = 0, 0, 0
	return c
}

// in is the moment at which clocks in loc show c. Of two, as the clock is set back, the
// first is a start and the second an end. Where there is none, as the clock is set
// forward, a start is the moment at which it is, and an end the second before: what was
// between did not happen.
func (c civil) in(loc *time.Location, kind Kind) time.Time {
	date := func(loc *time.Location) time.Time {
		return time.Date(c.year, time.Month(c.month), c.day, c.hour, c.min, c.sec, 0, loc)
	}
	utc, one := date(time.UTC), date(loc)
	var found []time.Time
	for _, day := range []time.Duration{-24 * time.Hour, 24 * time.Hour} {
		_, offset := one.Add(day).Zone()
		t := utc.Add(-time.Duration(offset) * time.Second).In(loc)
		if civilOf(t) == civilOf(utc) {
			found = append(found, t)
		}
	}
	switch {
	case len(found) == 2 && kind == Start && found[1].Before(found[0]), len(found) == 2 && kind == End && found[1].After(found[0]):
		return found[1]
	case len(found) > 0:
		return found[0]
	case civilOf(one) == civilOf(utc): // several changes within two days
		return one
	}
	begin, end := one.ZoneBounds()
	change := end
	if civilOf(one).after(civilOf(utc)) {
		change = begin
	}
	if kind == End {
		change = change.Add(-time.Second)
	}
	return change
}

func (c civil) after(d civil) bool {
	utc := func(c civil) time.Time {
		return time.Date(c.year, time.Month(c.month), c.day, c.hour, c.min, c.sec, 0, time.UTC)
	}
	return utc(c).After(utc(d))
}
