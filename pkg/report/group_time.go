package report

import "time"

// bucket is the start of the time that sec is in, in seconds since the epoch. Days
// start at midnight in loc, weeks on Sunday, as this-week does; shorter times are
// parts of a day.
func bucket(sec, every int64, loc *time.Location) int64 {
	t := time.Unix(sec, 0).In(loc)
	_, offset := t.Zone()
	local := sec + int64(offset)
	const day = 24 * 60 * 60
	shift := int64(0)
	if every%(7*day) == 0 {
		shift = 4 * day // 1 January 1970 was a Thursday
	}
	into := (local + shift) % every
	if into < 0 {
		into += every
	}
	// Where the clock was set back, the hour that comes twice is two, each with its own.
	if _, o := time.Unix(sec-into, 0).In(loc).Zone(); o == offset {
		return sec - into
	}
	start := local - into
	at := time.Unix(start, 0).UTC()
	return time.Date(at.Year(), at.Month(), at.Day(), at.Hour(), at.Minute(), at.Second(), 0, loc).Unix()
}

// mostEmpty is the largest number of empty intervals that are written as lines between
// intervals with events.
const mostEmpty = 10000

// withEmpty adds the times without events between others.
func withEmpty(all []group, every time.Duration, loc *time.Location) []group {
	if len(all) < 2 || (all[len(all)-1].at-all[0].at)/int64(every/time.Second) > mostEmpty {
		return all
	}
	var out []group
	for i, g := range all {
		if i > 0 {
			for at := next(all[i-1].at, every, loc); at < g.at; at = next(at, every, loc) {
				out = append(out, group{at: at})
			}
		}
		out = append(out, g)
	}
	return out
}

// next is the start of the time behind the one that starts at sec; half of it more
// steps over a change of the clock.
func next(sec int64, every time.Duration, loc *time.Location) int64 {
	step := int64(every / time.Second)
	n := bucket(sec+step+min(step/2, 2*60*60), step, loc)
	if n <= sec {
		n = sec + step
	}
	return n
}
